"""`python -m safevlm_training.documents OUT`: a folder of samples with their manifests."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from safevlm_sdk.errors import DataError

from .arguments import PICTURES, files_below, whole_from
from .folder import Order, write
from .kinds import DRAWN, SCENE
from .values import Assets

FACES = (".ttf", ".otf", ".ttc")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write pictures one by one with `manifest.jsonl`, `parts.jsonl` and `assets.json`; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        order = Order(
            assets=Assets(
                fonts=files_below(options.fonts, FACES),
                backgrounds=files_below(options.backgrounds, PICTURES),
                split=options.split,
            ),
            font_folders=tuple(options.fonts),
            background_folders=tuple(options.backgrounds),
            seed=options.seed,
            count=options.count,
            only=tuple(options.only),
            examples=options.examples,
        )
        written = write(options.out, order, jobs=options.jobs)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error}; check the folder and run again", file=sys.stderr)
        return 1
    print(f"{written} pictures and manifest.jsonl in {options.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m safevlm_training.documents", description=main.__doc__)
    add = parser.add_argument
    add("out", type=Path, help="folder to write to; made if missing")
    add("--count", type=whole_from(1), default=100, help="number of samples (default: 100)")
    add("--seed", type=whole_from(0), default=0, help="random seed, from 0 (default: 0)")
    add(
        "--split",
        choices=("train", "development", "held-out"),
        default="train",
        help="which templates (default: train)",
    )
    add(
        "--fonts",
        type=Path,
        nargs="+",
        default=[],
        help="folders of .ttf, .otf and .ttc files, searched to the bottom",
    )
    add("--backgrounds", type=Path, nargs="+", default=[], help="folders of photographs, searched to the bottom")
    add("--jobs", type=whole_from(1), default=1, help="processes that draw; any number writes the same (default: 1)")
    add(
        "--only",
        choices=(*DRAWN, SCENE),
        nargs="+",
        default=[],
        metavar="KIND",
        help="leave out every sample of another kind; those that stay are the same",
    )
    add("--examples", action="store_true", help="write the twelve fixed examples instead")
    return parser


if __name__ == "__main__":
    sys.exit(main())
