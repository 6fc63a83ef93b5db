"""Image file to answer: our gate beside other libraries, each in an environment of its own, in one interleaved run.

    python benchmarks/peers.py --images FOLDER_OR_FILES [--limit 55] [--threads 1] [--rounds 5] [--only NAME …]

What it needs it makes itself with pip and npm, under `.peers/`, and uses again: an environment per library, and a
ViT-B/16 with random weights in every form that is timed. A contender that cannot be set up is named with the reason.
The peers are no part of this package; NudeNet's weights are under the AGPL-3.0, whatever its metadata says. Where
they bring models of their own they look for something else than the starter does: this compares what a look at an
image costs, not what is seen. The ViT is the same for all that run it, and its answers mean nothing.

Each contender is a process that is asked, with a path, as its documentation says; it decodes and prepares the image
itself (the file is in the disk cache) and times itself, so that no pipe is in a figure. For each picture every
contender is asked once, in an order that rotates. "bare" is a bundle's own graph without the runtime around it.

`--threads N` gives each library N threads and keeps all processes on the same N cores; 0 leaves both alone. The ratio
is paired: per image the median over rounds of ours / theirs, then the median over images with its 95 % bootstrap
interval. Only figures of one run can be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from contenders import MAKER, Contender, catalogue
from environments import ROOT, NotMade, command, make, run, variables
from paired import Times, percentiles, turn
from peers_report import changed, compare, flagged, print_result
from PIL import Image
from worker_process import Answer, NoAnswer, WorkerProcess

from safevlm_runtime.bench.card import machine_card

PICTURES = (".jpg", ".jpeg", ".png", ".webp")


def keep_to_cores(threads: int) -> None:
    """Keeps this process and its children on as many cores as a library may have threads; 0 leaves them alone."""
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
            found.append(source.absolute())
            continue
        files = sorted(path.absolute() for path in source.rglob("*") if path.suffix.lower() in PICTURES)
        if not files:
            raise SystemExit(f"{source} holds no {', '.join(PICTURES)}; give --images another folder, or files")
        wanted = min(limit, len(files))
        found += [files[index * len(files) // wanted] for index in range(wanted)]
    return found


def chosen(contenders: Sequence[Contender], only: Sequence[str]) -> list[Contender]:
    """Those whose name or environment begins with a word of `only`; without any, all."""
    wanted = tuple(word.lower() for word in only)
    found = [
        one
        for one in contenders
        if not wanted or any(name.lower().startswith(wanted) for name in (one.name, one.environment.name))
    ]
    if not found:
        raise SystemExit(f"--only names none of: {', '.join(one.name for one in contenders)}")
    return found


def made_vit(folder: Path) -> Path:
    """The folder of the ViT's files, made in an environment of its own unless it lies there.

    Raises:
        NotMade: It could not be made.
    """
    vit = folder / "vit"
    if not (vit / "made").is_file():
        make(MAKER, folder)
        print(f"making {vit} …", file=sys.stderr, flush=True)
        vit.mkdir(exist_ok=True)
        run([*command(MAKER, folder, "make_vit.py"), str(vit)], place=folder, what="ViT")
        (vit / "made").touch()
    return vit


def start(
    contenders: Sequence[Contender], folder: Path, threads: int, stack: ExitStack
) -> tuple[dict[str, WorkerProcess], dict[str, dict[str, str]], dict[str, str]]:
    """The workers by contender, the versions by environment, and why the other contenders do not run."""
    workers: dict[str, WorkerProcess] = {}
    versions: dict[str, dict[str, str]] = {}
    missing: dict[str, str] = {}
    for one in contenders:
        try:
            versions[one.environment.name] = make(one.environment, folder)
            vit = made_vit(folder) if one.needs_vit else folder
            words = [*command(one.environment, folder, one.worker), *one.words(threads, vit)]
            log = folder / f"{one.name.replace(', ', '-').replace(' ', '-')}.log"
            workers[one.name] = WorkerProcess(words, variables(threads), log)
            stack.callback(workers[one.name].close)
        except (NotMade, NoAnswer) as problem:
            missing[one.name] = str(problem)
    return workers, versions, missing


def wake(workers: dict[str, WorkerProcess], image: Path, missing: dict[str, str]) -> None:
    """Asks each twice, which compiles what compiles at first; who has no answer goes from `workers` to `missing`."""
    for name, worker in list(workers.items()):
        try:
            worker.ask(image)
            worker.ask(image)
        except NoAnswer as problem:
            missing[name] = str(problem)
            del workers[name]
    if not workers:
        raise SystemExit(f"no contender answers {image}: {missing}; give other images")


def answered(
    workers: Mapping[str, WorkerProcess], images: Sequence[Path]
) -> tuple[list[Path], dict[str, list[Answer]], list[str]]:
    """Warms up: the images that all answer, each worker's answers to these, and why the others are left out."""
    kept: list[Path] = []
    answers: dict[str, list[Answer]] = {name: [] for name in workers}
    left_out: list[str] = []
    for image in images:
        found: dict[str, Answer] = {}
        for name, worker in workers.items():
            try:
                found[name] = worker.ask(image)
            except NoAnswer as problem:
                left_out.append(f"{image.name}: {name}: {problem}")
        if len(found) == len(workers):
            kept.append(image)
            for name, answer in found.items():
                answers[name].append(answer)
    if not kept:
        raise SystemExit("no image was answered by all contenders; the first failure: " + left_out[0])
    return kept, answers, left_out


def time_all(
    workers: Mapping[str, WorkerProcess], images: Sequence[Path], rounds: int
) -> tuple[dict[str, Times], dict[str, list[str]]]:
    """Milliseconds [rounds, images] of each worker, and the digests of its answers, image by image of each round."""
    names = list(workers)
    times = {name: np.zeros((rounds, len(images))) for name in names}
    digests: dict[str, list[str]] = {name: [] for name in names}
    for lap in range(rounds):
        for number, image in enumerate(images):
            # One more than the images, so that an image does not see the same order in each round.
            for index in turn(len(names), lap * (len(images) + 1) + number):
                name = names[index]
                try:
                    answer = workers[name].ask(image)
                except NoAnswer as problem:
                    raise SystemExit(f"{name} no longer answers {image}: {problem}; run it again") from problem
                times[name][lap, number] = answer.ms
                digests[name].append(answer.digest)
    return times, digests


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Makes what is missing, starts, warms up and times."""
    contenders = chosen(catalogue(options.bundle), options.only)
    images = pictures(options.images, options.limit)
    options.environments.mkdir(parents=True, exist_ok=True)
    folder = options.environments.resolve()
    with ExitStack() as stack:
        workers, versions, missing = start(contenders, folder, options.threads, stack)
        wake(workers, images[0], missing)
        images, answers, left_out = answered(workers, images)
        times, digests = time_all(workers, images, options.rounds)
        facts = {name: worker.facts for name, worker in workers.items()}
    running = [one for one in contenders if one.name in workers]
    return {
        "threads": options.threads or "default",
        "rounds": options.rounds,
        "images": len(images),
        "median_megapixels": round(float(np.median([megapixels(image) for image in images])), 3),
        "left_out": left_out,
        "not_run": missing,
        "contenders": {
            one.name: {
                "group": one.group,
                "ms_p50_p95_p99": [round(value, 3) for value in percentiles(times[one.name])],
                "flagged": flagged(answers[one.name]),
                "answers_that_changed": changed(answers[one.name], digests[one.name]),
                "environment": one.environment.name,
                **facts[one.name],
            }
            for one in running
        },
        "compared": compare(running, times),
        "environments": versions,
    }


def options_of(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="folders of pictures, or files")
    parser.add_argument("--limit", type=int, default=60, help="pictures of each folder (default 60)")
    parser.add_argument("--rounds", type=int, default=5, help="timed visits to each image (default 5)")
    parser.add_argument("--threads", type=int, default=1, help="per library; 0 leaves it to each (default 1)")
    parser.add_argument(
        "--bundle", type=Path, nargs="+", default=[], help="instead of the starter; several are compared"
    )
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="contenders, or environments, that begin so"
    )
    parser.add_argument("--json", type=Path, default=None, help="write the JSON line here, too")
    parser.add_argument(
        "--environments", type=Path, default=ROOT / ".peers", help="where they are made (default .peers/)"
    )
    options = parser.parse_args(arguments)
    if options.limit < 1 or options.rounds < 1 or options.threads < 0:
        parser.error("--limit and --rounds must be at least 1, --threads at least 0")
    return options


def main() -> None:
    options = options_of(sys.argv[1:])
    card = msgspec.to_builtins(machine_card()) | {"command": shlex.join(["python", *sys.argv])}
    for name, value in card.items():
        print(f"{name}: {value}")
    keep_to_cores(options.threads)
    result = measure(options)
    print_result(result)
    line = json.dumps({"benchmark": "peers", "card": card, "result": result})
    print(line)
    if options.json is not None:
        options.json.write_text(line + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
