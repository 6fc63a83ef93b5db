"""`python -m safevlm_training.documents OUT`: a folder of samples with their manifests."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import Assets, Sample, examples, generate

PICTURES = (".jpg", ".jpeg", ".png", ".webp")
FACES = (".ttf", ".otf")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write pictures, `manifest.jsonl` and `parts.jsonl` one by one; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m safevlm_training.documents", description=main.__doc__)
    parser.add_argument("out", type=Path, help="folder to write to; made if missing")
    parser.add_argument("--count", type=int, default=100, help="number of samples (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="random seed, from 0 (default: 0)")
    parser.add_argument(
        "--split", choices=("train", "held-out"), default="train", help="which templates (default: train)"
    )
    parser.add_argument("--fonts", type=Path, help="folder of .ttf and .otf files, searched to the bottom")
    parser.add_argument("--backgrounds", type=Path, help="folder of photographs, searched to the bottom")
    parser.add_argument("--examples", action="store_true", help="write the twelve fixed examples instead")
    options = parser.parse_args(arguments)
    if options.count < 1 or options.seed < 0:
        parser.error(f"--count starts at 1 and --seed at 0, found {options.count} and {options.seed}")
    try:
        assets = Assets(
            fonts=_files(options.fonts, FACES), backgrounds=_files(options.backgrounds, PICTURES), split=options.split
        )
        written = write(options.out, examples() if options.examples else _named(options.seed, options.count, assets))
    except OSError as error:
        print(f"error: {error}; check the folder and run again", file=sys.stderr)
        return 1
    print(f"{written} pictures and manifest.jsonl in {options.out}")
    return 0


def write(out: Path, samples: Iterator[tuple[str, Sample]]) -> int:
    """Write each sample as JPEG, holding one at a time; return how many.

    `manifest.jsonl` has the rows that training reads, `parts.jsonl` what each picture was made of.
    """
    out.mkdir(parents=True, exist_ok=True)
    count = 0
    with (
        (out / "manifest.jsonl").open("w", encoding="utf-8") as manifest,
        (out / "parts.jsonl").open("w", encoding="utf-8") as parts,
    ):
        for name, sample in samples:
            image = f"{name}.jpg"
            sample.image.save(out / image, quality=92)
            row = {
                "image": image,
                "category": sample.category,
                "level": sample.level,
                "group": sample.group,
                "source": f"generated/{sample.kind}",
            }
            manifest.write(json.dumps(row, ensure_ascii=False) + "\n")
            parts.write(json.dumps({"image": image, **sample.parts}, ensure_ascii=False) + "\n")
            count += 1
    return count


def _named(seed: int, count: int, assets: Assets) -> Iterator[tuple[str, Sample]]:
    for index in range(count):
        sample = generate(seed, index, assets=assets)
        yield f"{index:06d}-{sample.kind}", sample


def _files(folder: Path | None, endings: tuple[str, ...]) -> tuple[Path, ...]:
    if folder is None:
        return ()
    found = tuple(sorted(path for path in folder.rglob("*") if path.suffix.lower() in endings))
    if not found:
        raise FileNotFoundError(f"no {', '.join(endings)} file found under {folder}")
    return found


if __name__ == "__main__":
    sys.exit(main())
