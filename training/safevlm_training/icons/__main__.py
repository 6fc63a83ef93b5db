"""`python -m safevlm_training.icons OUT`: a folder of samples with their manifests."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from safevlm_sdk.errors import DataError

from .folder import Order, write
from .table import read_icons
from .values import IconAssets

PICTURES = (".jpg", ".jpeg", ".png", ".webp")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write pictures one by one with `manifest.jsonl`, `parts.jsonl` and `assets.json`; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        icons = read_icons(options.icons, options.labels)
        order = Order(
            assets=IconAssets(icons=icons, backgrounds=_pictures(options.backgrounds), split=options.split),
            icon_folder=options.icons,
            table=options.labels,
            background_folders=tuple(options.backgrounds),
            seed=options.seed,
            count=options.count,
        )
        write(options.out, order)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error}; check the file or folder and run again", file=sys.stderr)
        return 1
    risky = sum(icon.risky for icon in icons)
    print(f"{options.count} pictures and manifest.jsonl in {options.out}, of {risky} risky icons of {len(icons)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m safevlm_training.icons", description=main.__doc__)
    add = parser.add_argument
    add("out", type=Path, help="folder to write to; made if missing")
    add("--icons", type=Path, required=True, help="folder of .png files with transparency: FAMILY/ICON.png")
    add("--labels", type=Path, required=True, help="table of icon, label and reason, divided by tabs")
    add("--count", type=_whole, default=100, help="number of samples (default: 100)")
    add("--seed", type=_whole, default=0, help="random seed, from 0 (default: 0)")
    add("--split", choices=("train", "held-out"), default="train", help="which layouts (default: train)")
    add("--backgrounds", type=Path, nargs="+", default=[], help="folders of photographs, searched to the bottom")
    return parser


def _whole(text: str) -> int:
    if int(text) < 0:
        raise argparse.ArgumentTypeError(f"starts at 0, found {text}")
    return int(text)


def _pictures(folders: Sequence[Path]) -> tuple[Path, ...]:
    found: list[Path] = []
    for folder in folders:
        here = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES and path.is_file())
        if not here:
            raise FileNotFoundError(f"no {', '.join(PICTURES)} file found under {folder}")
        found += here
    return tuple(found)


if __name__ == "__main__":
    sys.exit(main())
