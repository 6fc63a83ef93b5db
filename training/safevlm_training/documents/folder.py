"""Writing samples into a folder, with manifests of their labels, parts and sources."""

from __future__ import annotations

import io
import json
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from safevlm_sdk.version import __version__

from .gallery import examples
from .generate import generate
from .kinds import kind_of
from .licences import sources
from .values import Assets, Sample

QUALITY = 92


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be drawn.

    Attributes:
        assets: Fonts, backgrounds and split.
        font_folders: The folders that the fonts were found in.
        background_folders: The folders that the backgrounds were found in.
        seed: Random seed, from 0.
        count: Number of places in the sequence of samples.
        only: Kinds to draw; the places of others stay empty. All kinds when empty.
        examples: Draw the fixed examples instead.
    """

    assets: Assets
    font_folders: tuple[Path, ...] = ()
    background_folders: tuple[Path, ...] = ()
    seed: int = 0
    count: int = 0
    only: tuple[str, ...] = ()
    examples: bool = False


@dataclass(frozen=True, slots=True)
class _Written:
    """One sample ready to be written."""

    image: str
    jpeg: bytes
    row: dict[str, str | int]
    parts: dict[str, str]


def write(out: Path, order: Order, *, jobs: int = 1) -> int:
    """Write each sample as JPEG, holding a few at a time; return how many.

    `manifest.jsonl` has the rows that training reads, `parts.jsonl` what each picture was made of, `assets.json` the
    generator's version and arguments, with hash and licence of every font and background it could use. No byte
    depends on `jobs`.

    Raises:
        DataError: A `LICENSES.tsv` cannot be read.
        OSError: A file cannot be read or written.
    """
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_assets(order), ensure_ascii=False, indent=1)
    (out / "assets.json").write_text(text + "\n", encoding="utf-8")
    count = 0
    with (
        _made(order, jobs) as made,
        (out / "manifest.jsonl").open("w", encoding="utf-8") as manifest,
        (out / "parts.jsonl").open("w", encoding="utf-8") as parts,
    ):
        for one in made:
            (out / one.image).write_bytes(one.jpeg)
            manifest.write(json.dumps(one.row, ensure_ascii=False) + "\n")
            parts.write(json.dumps({"image": one.image, **one.parts}, ensure_ascii=False) + "\n")
            count += 1
    return count


@contextmanager
def _made(order: Order, jobs: int) -> Iterator[Iterator[_Written]]:
    """Yield the samples in order, drawn here or by other processes."""
    draw = partial(_drawn, order.seed, order.assets)
    if order.examples:
        yield (_encoded(name, sample) for name, sample in examples())
        return
    places = [index for index in range(order.count) if not order.only or kind_of(index) in order.only]
    if jobs == 1:
        yield map(draw, places)
    else:
        with multiprocessing.get_context("spawn").Pool(min(jobs, len(places) or 1)) as pool:
            yield pool.imap(draw, places, chunksize=4)


def _drawn(seed: int, assets: Assets, index: int) -> _Written:
    sample = generate(seed, index, assets=assets)
    return _encoded(f"{index:06d}-{sample.kind}", sample)


def _encoded(name: str, sample: Sample) -> _Written:
    buffer = io.BytesIO()
    sample.image.save(buffer, "JPEG", quality=QUALITY)
    row: dict[str, str | int] = {
        "image": f"{name}.jpg",
        "category": sample.category,
        "level": sample.level,
        "group": sample.group,
        "source": f"generated/{sample.kind}",
    }
    return _Written(f"{name}.jpg", buffer.getvalue(), row, sample.parts)


def _assets(order: Order) -> dict[str, object]:
    drawn: dict[str, object] = {"seed": order.seed, "count": order.count, "split": order.assets.split}
    if order.only:
        drawn["only"] = order.only
    return {
        "generator": "safevlm_training.documents",
        "version": __version__,
        **({"examples": True} if order.examples else drawn),
        "fonts": sources(order.assets.fonts, order.font_folders),
        "backgrounds": sources(order.assets.backgrounds, order.background_folders),
    }
