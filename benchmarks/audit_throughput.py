"""Images per second of an audit beside those of its bare session on as many threads, and its memory over time.

    python benchmarks/audit_throughput.py [--images 4000] [--rounds 8] [--whole 50000] [--jobs 2] [--bundle B]

Small JPEG files are made in a temporary folder, each with bytes of its own. They are split over the rounds. In each
round four contenders take turns in changing order on the same files, each on `--jobs` threads:

- audit: `run_audit`, from the files to verdicts.jsonl and verdicts.parquet, without loading the bundle;
- bare with decoding: Pillow decodes, the bundle's preprocessing, `InferenceSession.run`, and nothing is kept;
- bare: `InferenceSession.run` alone, on tensors that were prepared before, one thread per image;
- bare, one by one: the same, but one image after another with all threads within the graph, which is what ONNX
  Runtime does when it is told nothing.

The ratios are paired by round: the median of audit / bare with its 95 % bootstrap interval, of images per second and
of images per second of processor time, which suffers less from whatever else the machine does. Without a GPU decoding
and inference share the cores, so that nothing which decodes can come near `bare`.

Then one audit goes through `--whole` files, and the memory of the process (RSS) is read after each tenth. Only
figures of one run can be compared.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import msgspec
import numpy as np
import onnxruntime
from paired import median_interval, turn
from PIL import Image

from safevlm_runtime.audit import Judge, JudgeSettings, LocalPool, Watching, open_source, run_audit
from safevlm_runtime.bench.card import machine_card
from safevlm_runtime.bundle.contract import choose_graph
from safevlm_runtime.bundle.reader import read_bundle, starter_path
from safevlm_sdk.manifest import DECISION_OUTPUTS, GATE
from safevlm_sdk.preprocess import preprocess

CPU = "CPUExecutionProvider"
KINDS = 64
MIB = 2**20


def make_images(folder: Path, count: int, rounds: int, side: int) -> list[Path]:
    """Makes files in one folder per round; what follows the end of a JPEG tells those of one kind apart."""
    rng = np.random.default_rng(0)
    kinds = []
    for _ in range(KINDS):
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(buffer, format="JPEG", quality=85)
        kinds.append(buffer.getvalue())
    folders = [folder / f"{number:02}" for number in range(rounds)]
    for one in folders:
        one.mkdir(parents=True)
    for number in range(count - count % rounds):
        place = folders[number % rounds] / f"{number:07}.jpg"
        place.write_bytes(kinds[number % KINDS] + number.to_bytes(8, "big"))
    return folders


class Bare:
    """A bundle's gate graph without anything around it: `jobs` images at a time, each on `threads` threads."""

    def __init__(self, path: Path, jobs: int, threads: int) -> None:
        bundle = read_bundle(path)
        graph = choose_graph(bundle.manifest, GATE, CPU, None)
        if graph is None:
            raise SystemExit(f"bundle {path} has no gate graph for ONNX Runtime; export it with --onnx")
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(bundle.graphs[graph.id], settings, providers=[CPU])
        self._wanted = [
            node.name for node in self._session.get_outputs() if node.name in (*DECISION_OUTPUTS, "attention")
        ]
        self._preprocessing, self._jobs = bundle.manifest.preprocessing, jobs

    def tensor(self, file: Path) -> Any:
        with Image.open(file) as picture:
            return preprocess(np.asarray(picture.convert("RGB")), self._preprocessing)[None]

    def infer(self, tensor: Any) -> Any:
        return self._session.run(self._wanted, {"pixel_values": tensor})

    def both(self, file: Path) -> Any:
        return self.infer(self.tensor(file))

    def go(self, work: Callable[[Any], Any], things: Sequence[Any]) -> None:
        with ThreadPoolExecutor(self._jobs) as threads:
            for _ in threads.map(work, things):
                pass


def audit(judge: Judge, folder: Path, out: Path, jobs: int, done: Callable[[int], None] = lambda rows: None) -> None:
    source = open_source(str(folder))
    run_audit(source, out, judge, lambda known: LocalPool(judge, jobs, known), Watching(done=done))


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds on the clock, and of the processor in all threads."""
    start, used = perf_counter(), process_time()
    work()
    return perf_counter() - start, process_time() - used


def compare(
    judge: Judge, bare: Bare, one_by_one: Bare, folders: Sequence[Path], out: Path, jobs: int
) -> dict[str, Any]:
    """Images per second and processor time of each contender, and the ratios."""
    names = ("audit", "bare with decoding", "bare", "bare, one by one")
    times = np.zeros((len(names), len(folders), 2))
    images = len(list(folders[0].iterdir()))
    for number, folder in enumerate(folders):
        files = sorted(folder.iterdir())[:images]
        tensors = [bare.tensor(file) for file in files[:KINDS]]  # the other files show the same pictures
        again = [tensors[index % len(tensors)] for index in range(len(files))]
        contenders = (
            partial(audit, judge, folder, out / f"{number}", jobs),
            partial(bare.go, bare.both, files),
            partial(bare.go, bare.infer, again),
            partial(one_by_one.go, one_by_one.infer, again),
        )
        for index in turn(len(contenders), number):
            times[index, number] = timed(contenders[index])
    result: dict[str, Any] = {}
    for name, (clock, used) in zip(names, np.median(times, axis=1), strict=True):
        result[name] = {
            "images/s": round(float(images / clock), 1),
            "processor ms/image": round(float(used / images * 1e3), 2),
        }
    for other in range(1, len(names)):
        for kind, what in enumerate(("images/s", "images per processor second")):
            found = median_interval(times[other, :, kind] / times[0, :, kind])
            result[f"audit / {names[other]}, {what}"] = [round(value, 3) for value in found]
    return result


def one_audit(judge: Judge, folder: Path, out: Path, count: int, jobs: int) -> dict[str, Any]:
    """Images per second of one long audit, and MiB of RSS after each tenth of it."""
    seen: list[float] = []

    def look(rows: int) -> None:
        if rows * 10 // count > len(seen):
            seen.append(round(rss(), 1))

    seconds, _ = timed(lambda: audit(judge, folder, out, jobs, look))
    return {"whole": count, "whole, images/s": round(count / seconds, 1), "rss_mib_by_tenths": seen}


def rss() -> float:
    """MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def run(options: argparse.Namespace) -> dict[str, Any]:
    bundle = options.bundle or starter_path()
    settings = JudgeSettings(bundles=(str(bundle),), digests=None, allow_uncalibrated=True)
    with tempfile.TemporaryDirectory() as place, Judge.load(settings) as judge:
        folder, out = Path(place) / "images", Path(place) / "out"
        folders = make_images(folder, options.images, options.rounds, options.side)
        bare, one_by_one = Bare(bundle, options.jobs, 1), Bare(bundle, 1, options.jobs)
        warm = make_images(Path(place) / "warm", 2 * KINDS, 1, options.side)[0]
        audit(judge, warm, out / "warm", options.jobs)
        for contender in (bare, one_by_one):
            contender.go(contender.both, sorted(warm.iterdir()))
        load = os.getloadavg()[0]
        compared = compare(judge, bare, one_by_one, folders, out, options.jobs)
        whole = make_images(Path(place) / "whole", options.whole, 1, options.side)[0]
        return {
            "bundle": judge.runtime.digests[0],
            "jobs": options.jobs,
            "images": options.images,
            "rounds": options.rounds,
            "side": options.side,
            **compared,
            **one_audit(judge, whole, out / "whole", options.whole, options.jobs),
            "load_before_and_after": [round(load, 2), round(os.getloadavg()[0], 2)],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--whole", type=int, default=4000, help="Images of the long audit.")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--side", type=int, default=256, help="Pixels of a side of an image.")
    parser.add_argument("--bundle", type=Path)
    options = parser.parse_args()
    card = msgspec.to_builtins(machine_card())
    for name, value in card.items():
        print(f"{name}: {value}")
    result = run(options)
    for name, value in result.items():
        print(f"{name}: {value}")
    print(json.dumps({**card, **result}))


if __name__ == "__main__":
    main()
