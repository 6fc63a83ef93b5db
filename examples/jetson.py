"""A gate on a Jetson: what is there, which provider really judges, and how fast it is after a warm-up.

    python examples/jetson.py bundle/ --digest sha256:…                   # TensorRT, or an error
    python examples/jetson.py bundle/ --digest sha256:… --then cpu        # TensorRT, else the processor, and says so
    python examples/jetson.py bundle/ --digest sha256:… --provider cpu    # the processor, to compare

A provider is a demand. What is tried after it stands on the command line (`--then`, several times) and nowhere else;
taking it is told, and exit code 3 tells a script. What to install is in docs/gate.md; `safevlm bench` measures more.
This file was tested on an x86 processor. It was NOT run on a Jetson.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from safevlm_sdk import Runtime, SafeVLMError, Verdict
from safevlm_sdk.command.doctor import report
from safevlm_sdk.platforms import load_matrix
from safevlm_sdk.raster import decode

FELL_BACK = 3
CAMERA = (720, 1280)  # height and width of the frame that is drawn where no image is given

Say = Callable[[str], object]


def tell_machine(say: Say) -> None:
    """Tells what `safevlm doctor` finds, as far as a Jetson is concerned."""
    found = report(load_matrix())
    gpus = ", ".join(gpu["name"] for gpu in found["driver"]["gpus"]) or found["driver"]["problem"] or "none"
    engines = {name: one["version"] or one["problem"] or "not here" for name, one in found["engines"].items()}
    say(f"machine: {found['platform'] or 'not in the support matrix'}, {found['system']}, Python {found['python']}")
    say(f"GPU: {gpus}; driver for CUDA {found['driver']['cuda'] or 'none'}")
    say(f"TensorRT: {engines.get('tensorrt', 'not here')}")
    for problem in found["problems"]:
        say(f"problem: {problem}")


def load(bundle: Path, digest: str | None, providers: Sequence[str], say: Say) -> tuple[Runtime, bool]:
    """Loads with the first provider that works, and says why those before it do not.

    Args:
        bundle: Its folder.
        digest: That it must have; engines of TensorRT are not loaded without one.
        providers: In the order in which they are tried; a single one must work.
        say: Prints a line.

    Returns:
        The runtime, and whether it fell back.

    Raises:
        SafeVLMError: The last one does not work either, or the bundle is refused.
    """
    with warnings.catch_warnings(record=True) as passed_over:
        warnings.simplefilter("always", RuntimeWarning)
        start = perf_counter()
        runtime = Runtime.load(bundle, provider=providers, digest=digest)
    tried = [str(one.message) for one in passed_over if issubclass(one.category, RuntimeWarning)]
    for reason in tried:
        say(f"FELL BACK: {reason}")
    say(f"judges with {runtime.provider}; loaded, and proven on golden inputs, in {perf_counter() - start:.1f} s")
    return runtime, bool(tried)


def judged(runtime: Runtime, pixels: NDArray[np.uint8]) -> Verdict:
    """A verdict of the gate itself.

    Raises:
        SystemExit: The gate failed; its time would be no figure.
    """
    verdict = runtime.check_frame(pixels)
    if verdict.error is not None:
        raise SystemExit(f"the gate failed, so nothing is measured: {verdict.error}: {verdict.reason}")
    return verdict


def measure(runtime: Runtime, pixels: NDArray[np.uint8], *, warm_up: int, frames: int, say: Say) -> None:
    """Judges `warm_up` frames that do not count, then `frames` that do; tells their rate and where the time goes."""
    for _ in range(warm_up):  # clocks rise, memory is taken, TensorRT-RTX makes its kernels, CUDA graphs are recorded
        judged(runtime, pixels)
    start = perf_counter()
    steps = [judged(runtime, pixels).timings_ms for _ in range(frames)]
    seconds = perf_counter() - start
    say(f"{frames} frames of {pixels.shape[1]} x {pixels.shape[0]}, one at a time: {frames / seconds:.1f} per second")
    for step in steps[0]:
        half, most = np.percentile([one[step] for one in steps], (50, 95))
        say(f"  {step:<10} {half:8.2f} ms at the median, {most:8.2f} ms at the 95th percentile")


def drawn_frame() -> NDArray[np.uint8]:
    """A frame of colours that run into each other: what it shows changes no time."""
    height, width = CAMERA
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) % 256], axis=2).astype(np.uint8)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--digest", help="sha256:… that the bundle must have; TensorRT wants it")
    parser.add_argument("--provider", default="tensorrt", help="that is demanded (default: tensorrt)")
    parser.add_argument("--then", action="append", default=[], metavar="PROVIDER", help="tried next; repeatable")
    parser.add_argument("--image", type=Path, help="a frame of your camera, instead of a drawn one")
    parser.add_argument("--frames", type=int, default=300, help="that are measured (default: 300)")
    parser.add_argument("--warm-up", type=int, default=50, help="frames before them (default: 50)")
    given = parser.parse_args(arguments)
    if given.frames < 1 or given.warm_up < 0:
        parser.error(f"--frames is {given.frames} and --warm-up {given.warm_up}; give at least 1, and no less than 0")

    def say(line: str) -> None:
        print(line, flush=True)

    try:
        pixels = decode(given.image).frames[0].pixels if given.image else drawn_frame()
        tell_machine(say)
        runtime, fell_back = load(given.bundle, given.digest, (given.provider, *given.then), say)
        with runtime:
            measure(runtime, pixels, warm_up=given.warm_up, frames=given.frames, say=say)
    except SafeVLMError as problem:
        print(f"error: {problem.code}: {problem}", file=sys.stderr)
        return 1
    say("measured alone; beside a model that shares the memory it is slower: run both, then set deadlines")
    return FELL_BACK if fell_back else 0


if __name__ == "__main__":
    sys.exit(main())
