"""Cold start, memory and latency of the starter, each in a process of its own.

    python benchmarks/start_up.py [IMAGE] [--runs 7] [--checks 100]

Times are of this machine at this moment; compare only what stands in one run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from safevlm_runtime.bench.card import machine_card

IMPORT = """
import time
start = time.perf_counter()
import safevlm_sdk
print(time.perf_counter() - start)
"""
FIRST_VERDICT = """
import resource, sys, time
start = time.perf_counter()
from safevlm_sdk import Runtime
runtime = Runtime.starter()
loaded = time.perf_counter()
verdict = runtime.check(sys.argv[1])
first = time.perf_counter()
print(loaded - start, first - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
BASELINE = """
import resource, sys, time
start = time.perf_counter()
import numpy, onnxruntime
from PIL import Image
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
WARM = """
import json, sys, numpy
from safevlm_sdk import Runtime
runtime = Runtime.starter()
verdicts = [runtime.check(sys.argv[1]) for _ in range(int(sys.argv[2]) + 10)][10:]
steps = {step: [v.timings_ms[step] for v in verdicts] for step in verdicts[0].timings_ms}
print(json.dumps({s: [round(float(x), 3) for x in numpy.percentile(ms, (50, 95, 99))] for s, ms in steps.items()}))
"""


def run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def numbers(code: str, runs: int, *arguments: str) -> list[float]:
    """The median of each number that the code prints, over `runs` processes after one that warms the disk cache."""
    rows = [[float(word) for word in run(code, *arguments).split()] for _ in range(runs + 1)][1:]
    return [median(column) for column in zip(*rows, strict=True)]


def measure(image: str, runs: int, checks: int) -> dict[str, Any]:
    base_seconds, base_mib = numbers(BASELINE, runs)
    loaded, first, mib = numbers(FIRST_VERDICT, runs, image)
    return {
        "import_safevlm_sdk_s": numbers(IMPORT, runs)[0],
        "import_numpy_pillow_onnxruntime_s": base_seconds,
        "start_to_loaded_s": loaded,
        "start_to_first_verdict_s": first,
        "peak_rss_mib": mib,
        "peak_rss_of_numpy_pillow_onnxruntime_mib": base_mib,
        "check_ms_p50_p95_p99": json.loads(run(WARM, image, str(checks))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", nargs="?")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--checks", type=int, default=100)
    options = parser.parse_args()
    card = msgspec.to_builtins(machine_card())
    for name, value in card.items():
        print(f"{name}: {value}")
    with tempfile.TemporaryDirectory() as folder:
        image = options.image
        if image is None:
            from safevlm_training.documents import examples

            image = str(Path(folder) / "photo.jpg")
            dict(examples())["scene_hills"].image.resize((640, 427)).save(image, quality=90)
        result = measure(image, options.runs, options.checks)
    for name, value in result.items():
        print(f"{name}: {value if isinstance(value, dict) else round(value, 3)}")
    print(json.dumps({"benchmark": "start_up", "card": card, "result": result}))


if __name__ == "__main__":
    main()
