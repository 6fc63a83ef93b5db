"""The starter's worst mistakes on invented documents, as one picture.

    python benchmarks/starter_failures.py --documents MANIFEST.jsonl --out docs/images/starter-failures.jpg

The upper rows were missed, the lower ones flagged without need. Only samples on drawn grounds are shown: they hold
nobody's photograph.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from safevlm_sdk import Runtime
from safevlm_training.documents.scenes import SCENES

COLUMNS, ROWS, SIDE, CAPTION = 6, 2, 180, 18
DRAWN = {*SCENES, "surface"}
Shown = list[tuple[Path, str]]


def mistakes(manifest: Path, without: set[str]) -> tuple[Shown, Shown]:
    """The missed private documents and the flagged harmless ones, each worst first, of drawn grounds alone."""
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    parts = (manifest.parent / "parts.jsonl").read_text(encoding="utf-8").splitlines()
    grounds = {part["image"]: part.get("background") for part in map(json.loads, parts)}
    kept = [row for row in rows if grounds[row["image"]] in DRAWN and kind(row) not in without]
    with Runtime.starter() as runtime:
        verdicts = runtime.check_many(manifest.parent / row["image"] for row in kept)
    missed, flagged = [], []
    for row, verdict in zip(kept, verdicts, strict=True):
        wanted = row["category"] != "safe"
        if verdict.score is not None and wanted == verdict.allowed:
            named = (manifest.parent / row["image"], f"{kind(row)} {verdict.score:.2f}")
            (missed if wanted else flagged).append((verdict.score, named))
    return [named for _, named in sorted(missed)], [named for _, named in sorted(flagged, reverse=True)]


def kind(row: dict[str, Any]) -> str:
    return str(row["source"]).removeprefix("generated/")


def montage(pictures: Shown) -> Image.Image:
    """At most COLUMNS x ROWS pictures with their captions."""
    sheet = Image.new("RGB", (COLUMNS * SIDE, ROWS * (SIDE + CAPTION)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for index, (path, caption) in enumerate(pictures[: COLUMNS * ROWS]):
        x, y = index % COLUMNS * SIDE, index // COLUMNS * (SIDE + CAPTION)
        with Image.open(path) as picture:
            picture.thumbnail((SIDE - 4, SIDE - 4))
            sheet.paste(picture, (x + 2, y + 2))
        pen.text((x + 4, y + SIDE), caption, fill="black", font=font)
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=Path, required=True, help="a manifest.jsonl of the generator")
    parser.add_argument("--without", nargs="*", default=[], help="kinds that the starter does not cover")
    parser.add_argument("--out", type=Path, required=True, help="a .jpg file")
    options = parser.parse_args()
    missed, flagged = mistakes(options.documents, set(options.without))
    sheets = [montage(missed), montage(flagged)]
    whole = Image.new("RGB", (sheets[0].width, sum(sheet.height for sheet in sheets) + 6), "black")
    whole.paste(sheets[0], (0, 0))
    whole.paste(sheets[1], (0, sheets[0].height + 6))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    whole.save(options.out, quality=80)
    print(f"{len(missed)} missed and {len(flagged)} flagged on drawn grounds; the worst are in {options.out}")


if __name__ == "__main__":
    main()
