"""A gate beside a language model: what each loses while both work on the same cores or GPU, and the first token.

    python benchmarks/beside_llm.py [--llm-size 0.5b | --llm MODEL] [--provider cpu] [--cores 4] [--rounds 6]

Gate and language model are processes of their own on the same cores. In each round the gate works alone, the language
model decodes alone, and both work, each for `--seconds`; rounds differ in the order. Without `--llm` the language
model is a Llama made from a configuration with random weights, which decodes as fast as a trained one; it runs on a
GPU where PyTorch has one. The gate checks one image after the other, or `--per-second` of them.

Then the time to the first streamed token of an OpenAI-compatible engine: asked itself, behind `runtime.guard(…)`, and
behind `safevlm serve`, in turns on the same picture. The engine is `transformers serve` with a tiny LLaVA of random
weights on the CPU, or yours (`--engine-url http://127.0.0.1:8000 --engine-model NAME`); `--without-engine` leaves
this part out.

Peak memory is VmHWM of each process. Energy is what RAPL, a board's power monitors or an NVIDIA GPU tell, per image
and above what the machine draws without the gate. Only figures of one run can be compared. Linux, for the memory of
other processes is read from /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from beside_process import SIZES
from first_token import measure_first_token
from paired import turn

from safevlm_runtime.bench.card import machine_card
from safevlm_runtime.bench.figures import percentiles
from safevlm_runtime.bench.gpu_sensors import gpu_sensors, load_nvml
from safevlm_runtime.bench.images import draw_picture
from safevlm_runtime.bench.kernel_sensors import kernel_sensors
from safevlm_runtime.bench.readings import EnergyMeter, Rail, energy_per_image, idle_watts, joined
from safevlm_runtime.bundle.loading import starter_folder

ROOT = Path(__file__).resolve().parent.parent
NOT_TOLD = "not told by this machine"
GATE, LLM, BOTH = "gate", "llm", "both"
PHASES = (GATE, LLM, BOTH)
PICTURE = (640, 480)
STEP = 0.5  # seconds between two looks at the power

Found = dict[str, Any]


class Worker:
    """A child process of `beside_process.py`; it inherits the cores of this one."""

    def __init__(self, job: Found) -> None:
        places = [str(ROOT / name) for name in ("", "runtime", "training")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
        command = [sys.executable, str(ROOT / "benchmarks" / "beside_process.py"), json.dumps(job)]
        self._kind = job["kind"]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.about: Found = self._read()["ready"]

    def start(self, seconds: float) -> None:
        """Comes back when it is at work."""
        print(json.dumps({"seconds": seconds}), file=self._process.stdin, flush=True)
        self._read()

    def finish(self) -> Found:
        """What it did."""
        return self._read()

    def close(self) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _read(self) -> Found:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the {self._kind}'s process ended with {self._process.wait()}; its own words are above")
        return json.loads(line)


@contextmanager
def metered(rails: Sequence[Rail], spent: Found) -> Iterator[None]:
    """Adds what a block takes to `spent`: "seconds", and joules by rail in "joules"."""
    meter, over, begun = EnergyMeter(rails), threading.Event(), time.monotonic()
    meter.sample(begun)

    def watch() -> None:
        while not over.wait(STEP):
            meter.sample(time.monotonic())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
        now = time.monotonic()
        spent["seconds"] = spent.get("seconds", 0.0) + now - begun
        for name, joules in meter.sample(now).items():
            spent.setdefault("joules", {})[name] = spent.get("joules", {}).get(name, 0.0) + joules


def phase(name: str, gate: Worker, llm: Worker, seconds: float) -> Found:
    """One phase; kind of a worker to what it did."""
    working = {GATE: [gate], LLM: [llm], BOTH: [llm, gate]}[name]
    for worker in working:
        worker.start(seconds)
    done = {worker: worker.finish() for worker in reversed(working)}
    return {kind: done[worker] for kind, worker in ((GATE, gate), (LLM, llm)) if worker in done}


def common(found: Found) -> tuple[float, float]:
    """From when to when all workers of a phase were at work."""
    return max(one["begin"] for one in found.values()), min(one["end"] for one in found.values())


def checks_within(gate: Found, window: tuple[float, float]) -> list[float]:
    """Milliseconds of the checks that began and ended in a window."""
    begin, end = window
    return [ms for at, ms in zip(gate["starts"], gate["ms"], strict=True) if begin <= at and at + ms / 1e3 <= end]


def tokens_per_second(llm: Found, window: tuple[float, float]) -> float:
    begin, end = window
    return sum(begin < at <= end for at in llm["times"]) / (end - begin)


def gaps_within(llm: Found, window: tuple[float, float]) -> list[float]:
    """Milliseconds from one token to the next in a window."""
    begin, end = window
    times = [at for at in llm["times"] if begin <= at <= end]
    return [(after - before) * 1e3 for before, after in pairwise(times)]


def figures(rounds: Sequence[Mapping[str, Found]]) -> Found:
    """What follows from the phases of all rounds; lost tokens are paired by round."""
    alone, beside, gaps_alone, gaps_beside = [], [], [], []
    speeds: dict[str, list[float]] = {LLM: [], BOTH: []}
    lost, lost_ms = [], []
    for one in rounds:
        window, quiet = common(one[BOTH]), common(one[LLM])
        checked = checks_within(one[BOTH][GATE], window)
        if not (checked and gaps_within(one[BOTH][LLM], window) and gaps_within(one[LLM][LLM], quiet)):
            raise SystemExit("hardly anything happened within a phase; give more --seconds, or a smaller model")
        alone += one[GATE][GATE]["ms"]
        beside += checked
        gaps_alone += gaps_within(one[LLM][LLM], quiet)
        gaps_beside += gaps_within(one[BOTH][LLM], window)
        speeds[LLM].append(tokens_per_second(one[LLM][LLM], quiet))
        speeds[BOTH].append(tokens_per_second(one[BOTH][LLM], window))
        lost.append(1 - speeds[BOTH][-1] / speeds[LLM][-1])
        lost_ms.append(lost[-1] * (window[1] - window[0]) * 1e3 / len(checked))
    return {
        "gate_alone_ms_p50_p95_p99": rounded(percentiles(alone)),
        "gate_beside_ms_p50_p95_p99": rounded(percentiles(beside)),
        "gate_p50_beside_over_alone": round(percentiles(beside)[0] / percentiles(alone)[0], 3),
        "checks_alone_and_beside": [len(alone), len(beside)],
        "tokens_per_second_alone": round(float(np.median(speeds[LLM])), 2),
        "tokens_per_second_beside": round(float(np.median(speeds[BOTH])), 2),
        "tokens_lost": round(float(np.median(lost)), 4),
        "decoding_ms_lost_per_image": round(float(np.median(lost_ms)), 3),
        "token_ms_alone_p50_p95_p99": rounded(percentiles(gaps_alone)),
        "token_ms_beside_p50_p95_p99": rounded(percentiles(gaps_beside)),
        "tokens_per_second_by_round": {"alone": rounded(speeds[LLM]), "beside": rounded(speeds[BOTH])},
    }


def rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 3) for value in values]


def energies(spent: Mapping[str, Found], images: Mapping[str, int], idle: Mapping[str, float]) -> Found | None:
    """Per image, alone and beside; None where no rail is told."""
    if not spent[GATE].get("joules"):
        return None
    decoding = {name: joules / spent[LLM]["seconds"] for name, joules in spent[LLM]["joules"].items()}
    return {
        "gate_alone": energy_per_image(spent[GATE]["joules"], spent[GATE]["seconds"], images[GATE], idle),
        "gate_beside": energy_per_image(spent[BOTH]["joules"], spent[BOTH]["seconds"], images[BOTH], decoding),
    }


def side_by_side(options: argparse.Namespace, image: Path, rails: Sequence[Rail]) -> Found:
    """Everything about the two processes."""
    job = {"image": str(image), "bundle": str(options.bundle), "digest": options.digest}
    job |= {"provider": options.provider, "threads": options.threads, "per_second": options.per_second}
    spoken = {"llm": options.llm, "size": options.llm_size, "device": options.llm_device, "dtype": options.llm_dtype}
    with ExitStack() as stack:
        gate = Worker(job | {"kind": GATE})
        stack.callback(gate.close)
        llm = Worker(spoken | {"kind": LLM, "threads": options.llm_threads})
        stack.callback(llm.close)
        spent: dict[str, Found] = {name: {} for name in PHASES}
        for name in PHASES:
            phase(name, gate, llm, min(1.0, options.seconds))  # warms up
        idle = idle_watts(rails, options.idle)
        rounds = []
        for visit in range(options.rounds):
            found = {}
            for place in turn(len(PHASES), visit):
                with metered(rails, spent[PHASES[place]]):
                    found[PHASES[place]] = phase(PHASES[place], gate, llm, options.seconds)
            rounds.append(found)
    last = rounds[-1]
    # One check of each phase is not timed, and takes energy all the same.
    images = {name: sum(len(one[name][GATE]["ms"]) + 1 for one in rounds) for name in (GATE, BOTH)}
    return {
        "gate": gate.about,
        "llm": llm.about,
        **figures(rounds),
        "energy": energies(spent, images, idle),
        "peak_mib": {
            GATE: max(one["peak_mib"] for one in (last[GATE][GATE], last[BOTH][GATE])),
            LLM: max(one["peak_mib"] for one in (last[LLM][LLM], last[BOTH][LLM])),
            "llm_on_its_gpu": last[BOTH][LLM]["gpu_peak_mib"],
        },
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=starter_folder(), help="[the starter]")
    parser.add_argument("--digest", default=None)
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--threads", type=int, default=None, help="of the gate")
    parser.add_argument("--per-second", type=float, default=0.0, help="checks; 0 is one after the other")
    parser.add_argument(
        "--image", type=Path, default=None, help="an image that is allowed; without one, one is drawn"
    )
    parser.add_argument("--llm", default=None, help="a causal language model of transformers, by folder or name")
    parser.add_argument("--llm-size", choices=tuple(SIZES), default="0.5b")
    parser.add_argument("--llm-device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--llm-dtype", choices=("float32", "bfloat16", "float16"), default=None)
    parser.add_argument("--llm-threads", type=int, default=None)
    parser.add_argument("--cores", type=int, default=0, help="that all processes share; 0 is all")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each phase")
    parser.add_argument("--idle", type=float, default=10.0, help="seconds to wait, for the power of an idle machine")
    parser.add_argument("--without-engine", action="store_true")
    parser.add_argument("--engine-url", default=None, help="of an engine that runs, without /v1")
    parser.add_argument("--engine-model", default=None)
    parser.add_argument("--asks", type=int, default=60, help="of each way to the engine")
    parser.add_argument("--note", default=None, help="kept in the result")
    parser.add_argument("--out", type=Path, default=None, help="write the JSON line here, too")
    options = parser.parse_args()
    if options.engine_url and not options.engine_model:
        parser.error("--engine-url needs --engine-model")
    return options


def keep_to_cores(count: int) -> None:
    """Keeps this process, and those that it starts, on so many cores; 0 leaves it alone."""
    if count:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def main() -> None:
    options = arguments()
    keep_to_cores(options.cores)
    card = msgspec.to_builtins(machine_card()) | {"note": options.note}
    for name, value in card.items():
        print(f"{name}: {value}")
    sensors = joined(kernel_sensors(), gpu_sensors(load_nvml()))
    with tempfile.TemporaryDirectory() as name:
        image = options.image
        if image is None:
            image = Path(name, "drawn.jpg")
            draw_picture(*PICTURE).save(image, quality=90)
        result = side_by_side(options, image, sensors.rails)
        result["first_token"] = None if options.without_engine else measure_first_token(options, image, Path(name))
    for name, value in result.items():
        print(f"{name}: {NOT_TOLD if name == 'energy' and value is None else value}")
    if sensors.silent:
        print(f"cannot be read, try as root: {', '.join(sensors.silent)}")
    settings = {key: getattr(options, key) for key in ("seconds", "rounds", "threads", "per_second", "asks")}
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    line = json.dumps({"benchmark": "beside_llm", "date": date, "card": card, "settings": settings, "result": result})
    print(line)
    if options.out is not None:
        options.out.write_text(line + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
