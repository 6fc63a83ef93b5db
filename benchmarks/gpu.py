"""A gate on a GPU: batches of 1 to 64 on every engine, and the fraction of the measured matrix rate that it reaches.

    python benchmarks/gpu.py [--towers clip-l14-336 siglip2-so400m-384] [--batch-sizes 1 2 4 …] [--out FOLDER]

Towers are made from their configurations with random weights, with the safety head behind them, and exported as
`safevlm-export` exports. Contenders are ONNX Runtime in fp32 and fp16, as the gate runs it and bound to the device,
with CUDA graphs too; TensorRT and TensorRT-RTX where they are installed; PyTorch in fp16 and bf16, eager, compiled,
and compiled with CUDA graphs. `--only TEXT …` keeps those whose name contains one of the texts. At each batch size
all take turns, and with them square matrix products in ONNX Runtime and in PyTorch. The fraction of a contender is
its rate over the faster of these two products in the same round and precision. What cannot be made here is named with
its reason; "error" is how far the logits are from PyTorch's in float32, as a share of the largest.

    make bench-gpu

makes an environment with onnxruntime-gpu and writes the result, by date and card, into benchmarks/results/.
`--device cpu` runs the same script on a CPU, to try it out.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
import torch
from export_families import ARCHITECTURES
from gpu_contenders import (
    DTYPES,
    TORCH_MODES,
    Contender,
    Subject,
    make_subject,
    ort_device,
    ort_host,
    pytorch,
    reference_logits,
    tensorrt,
)
from paired import turn

from safevlm_runtime.backends.ort_backend import PROVIDERS
from safevlm_runtime.bench.card import machine_card
from safevlm_runtime.bench.ceiling import SIDES, CeilingRun
from safevlm_runtime.bench.figures import percentiles
from safevlm_runtime.bench.gpu_sensors import gpu_sensors, load_nvml
from safevlm_runtime.bench.readings import told

TOWERS = ("clip-l14-336", "siglip2-so400m-384")
BATCHES = (1, 2, 4, 8, 16, 32, 64)
WARM_UPS = 3  # CUDA graphs are recorded and kernels chosen in the first runs
HEAD = ("contender", "from", "p50 ms", "p95 ms", "p99 ms", "images/s", "Tflop/s", "of the rate", "error")

Maker = Callable[[], "Callable[[np.ndarray], Contender]"]


def makers(subject: Subject, device: str, most: int) -> dict[str, Maker]:
    """Every contender by name, not yet made."""
    found: dict[str, Maker] = {
        "ONNX Runtime fp32": lambda: ort_host(subject, "fp32", device),
        "ONNX Runtime fp16": lambda: ort_host(subject, "fp16", device),
        "ONNX Runtime fp16, bound": lambda: ort_device(subject, "fp16", device, graphs=False),
    }
    if device == "cuda":
        found["ONNX Runtime fp16, CUDA graphs"] = lambda: ort_device(subject, "fp16", device, graphs=True)
    found["TensorRT fp16"] = lambda: tensorrt(subject, "tensorrt", most)
    found["TensorRT-RTX fp16"] = lambda: tensorrt(subject, "tensorrt_rtx", most)
    modes = [mode for mode in TORCH_MODES if device == "cuda" or mode != "reduce-overhead"]
    for precision in ("fp16", "bf16"):
        for mode in modes:
            found[TORCH_MODES[mode].format(precision)] = lambda p=precision, m=mode: pytorch(subject, p, device, m)
    return found


class Products:
    """Square matrix products in ONNX Runtime and in PyTorch, and their rates in 10^9 operations per second.

    Args:
        device: "cuda" or "cpu".
        side: Of the matrices; None is the usual.
    """

    def __init__(self, device: str, side: int | None) -> None:
        self._device = device
        self._side = side or SIDES[PROVIDERS[device]]
        copied = None if side is None else 2**16  # what is small in one way is small in both
        self._ort = CeilingRun(PROVIDERS[device], None, sides=self._side, copied=copied)
        drawn = torch.randn((2, self._side, self._side), generator=torch.Generator().manual_seed(0))
        self._operands = {kind: drawn.to(device=device, dtype=dtype) for kind, dtype in DTYPES.items()}
        self._rates: dict[str, list[float]] = {kind: [] for kind in DTYPES}
        self.steps: tuple[Callable[[], None], ...] = (self._ort.measure, self._in_pytorch)
        self._ort.warm_up()
        self._in_pytorch()

    def last(self, rounds: int) -> dict[str, dict[str, list[float]]]:
        """By library and precision, those of the last rounds; a precision without a kernel is not there."""
        ort = self._ort.result().gemm
        libraries = {
            "ONNX Runtime": {kind: list(rates) for kind, rates in ort.items() if rates},
            "PyTorch": self._rates,
        }
        return {name: {kind: rates[-rounds:] for kind, rates in by.items()} for name, by in libraries.items()}

    def _in_pytorch(self) -> None:
        for kind, (left, right) in self._operands.items():
            begun = perf_counter()
            torch.matmul(left, right)
            if self._device == "cuda":
                torch.cuda.synchronize()
            self._rates[kind].append(2.0 * self._side**3 / (perf_counter() - begun) / 1e9)


def measure_batch(
    contenders: Sequence[Contender], products: Products, flops: int, batch: int, rounds: int
) -> dict[str, Any]:
    """Rounds of one batch size, of `flops` operations in all, in which contenders and products take turns."""
    times: list[list[float]] = [[] for _ in contenders]
    for visit in range(rounds):
        for place in turn(len(contenders) + len(products.steps), visit):
            if place >= len(contenders):
                products.steps[place - len(contenders)]()
                continue
            begun = perf_counter()
            contenders[place].run()
            times[place].append((perf_counter() - begun) * 1e3)
    rates = products.last(rounds)
    return {
        "batch": batch,
        "rows": [row_of(one, ms, flops, batch, rates) for one, ms in zip(contenders, times, strict=True)],
        "gemm_gflops": {
            name: {kind: round(float(np.median(samples)), 1) for kind, samples in by.items()}
            for name, by in rates.items()
        },
    }


def row_of(
    one: Contender, ms: Sequence[float], flops: int, batch: int, rates: dict[str, dict[str, list[float]]]
) -> dict[str, Any]:
    """One contender at one batch size; the fraction is the median over rounds."""
    known = [np.asarray(by[one.precision]) for by in rates.values() if one.precision in by]
    reached = flops / np.asarray(ms) / 1e6
    fraction = float(np.median(reached / np.maximum.reduce(known))) if known else None
    p50, p95, p99 = (round(value, 4) for value in percentiles(ms))
    return {
        "name": one.name,
        "precision": one.precision,
        "place": one.place,
        "ms_p50_p95_p99": [p50, p95, p99],
        "images_per_second": round(batch * 1e3 / p50, 1),
        "gflops": round(flops / p50 / 1e6, 1),
        "fraction_of_gemm": None if fraction is None else round(fraction, 4),
    }


def reason(problem: Exception) -> str:
    return " ".join(f"{type(problem).__name__}: {problem}".split())[:200]


def measure(name: str, options: argparse.Namespace, products: Products) -> Iterator[dict[str, Any]]:
    """The head of one tower's result, and then each batch size."""
    subject = make_subject(name)
    yield {"tower": name, "side": subject.side, "gflop_per_view": subject.flops / 1e9}
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((max(options.batch_sizes), 3, subject.side, subject.side), dtype=np.float32)
    expected = reference_logits(subject, pixels)
    wanted = makers(subject, options.device, max(options.batch_sizes))
    made, missing = {}, {}
    for title, make in wanted.items():
        if options.only and not any(text in title for text in options.only):
            continue
        try:
            made[title] = make()
        except Exception as problem:  # libraries raise errors of their own kinds, and the others can still be timed
            missing[title] = reason(problem)
    sensors = gpu_sensors(load_nvml())
    for batch in options.batch_sizes:
        torch.compiler.reset()  # or the limit on compilations of one module is reached
        ready, failed, errors = [], dict(missing), []
        for title, with_batch in made.items():
            try:
                one = with_batch(pixels[:batch])
                for _ in range(WARM_UPS):
                    one.run()
                errors.append(float(np.abs(one.logits() - expected).max() / np.abs(expected).max()))
                ready.append(one)
            except Exception as problem:
                failed[title] = reason(problem)
        found = measure_batch(ready, products, subject.flops * batch, batch, options.rounds)
        for row, error in zip(found["rows"], errors, strict=True):
            row["error"] = error
        yield found | {"missing": failed, "celsius": told(sensors.celsius), "mhz": told(sensors.mhz)}


def print_batch(name: str, found: dict[str, Any]) -> None:
    """One table."""
    print(f"\n{name}, batch {found['batch']}; GEMM in Gflop/s: {found['gemm_gflops']}", flush=True)
    print(f"| {' | '.join(HEAD)} |", f"|{' --- |' * len(HEAD)}", sep="\n")
    for row in found["rows"]:
        fraction = row["fraction_of_gemm"]
        cells = [row["name"], row["place"], *(f"{value:.2f}" for value in row["ms_p50_p95_p99"])]
        cells += [f"{row['images_per_second']:.1f}", f"{row['gflops'] / 1e3:.2f}"]
        cells += ["-" if fraction is None else f"{fraction:.0%}", f"{row['error']:.1e}"]
        print(f"| {' | '.join(cells)} |")
    for title, why in found["missing"].items():
        print(f"not measured: {title}: {why}")


def card_of(options: argparse.Namespace) -> dict[str, Any]:
    """The machine, and the card that computes."""
    gpu = torch.cuda.get_device_properties(0) if options.device == "cuda" else None
    return msgspec.to_builtins(machine_card()) | {
        "device": options.device if gpu is None else gpu.name,
        "gpu_memory_mib": None if gpu is None else gpu.total_memory // 2**20,
        "capability": None if gpu is None else f"{gpu.major}.{gpu.minor}",
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "note": options.note,
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--towers", nargs="+", choices=("tiny", *ARCHITECTURES), metavar="TOWER", default=TOWERS)
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--only", nargs="*", default=(), help="parts of names of contenders")
    parser.add_argument("--side", type=int, default=None, help="of the matrix products, if not the usual")
    parser.add_argument("--note", default=None, help="kept in the result")
    parser.add_argument("--out", type=Path, default=None, help="a folder, for a file named by date and card")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch sees no GPU here; give --device cpu to try the script out")
    if min(options.batch_sizes) < 1 or options.rounds < 1:
        parser.error("batch sizes and rounds are at least 1")
    return options


def main() -> None:
    options = arguments()
    card, now = card_of(options), datetime.now(timezone.utc)
    for name, value in card.items():
        print(f"{name}: {value}")
    results, products = [], Products(options.device, options.side)
    for name in options.towers:
        steps = measure(name, options, products)
        results.append(next(steps) | {"batches": []})
        for found in steps:
            results[-1]["batches"].append(found)
            print_batch(name, found)
        del steps
        gc.collect()  # engines and sessions hold the card's memory
        torch.cuda.empty_cache()
    date = now.isoformat(timespec="seconds")
    line = json.dumps({"benchmark": "gpu", "date": date, "card": card, "rounds": options.rounds, "results": results})
    print(line)
    if options.out is not None:
        slug = re.sub(r"[^a-z0-9]+", "-", str(card["device"]).lower()).strip("-")
        (options.out / f"{now.date()}-gpu-{slug}.json").write_text(line + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
