"""Writing samples into a folder, with manifests of their labels, parts and sources."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from safevlm_sdk.version import __version__
from safevlm_training.documents.licences import sources

from .generate import generate
from .values import IconAssets

QUALITY = 92


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be drawn.

    Attributes:
        assets: Icons, backgrounds and split.
        icon_folder: The folder that the icons were found in.
        table: The table of labels.
        background_folders: The folders that the backgrounds were found in.
        seed: Random seed, from 0.
        count: Number of samples.
    """

    assets: IconAssets
    icon_folder: Path
    table: Path
    background_folders: tuple[Path, ...] = ()
    seed: int = 0
    count: int = 0


def write(out: Path, order: Order) -> None:
    """Write each sample as JPEG, holding one at a time.

    `manifest.jsonl` has the rows that training reads, `parts.jsonl` what each picture was made of, `assets.json` the
    generator's version and arguments, with hash and licence of every icon and background it could use.

    Raises:
        DataError: A `LICENSES.tsv` cannot be read.
        OSError: A file cannot be read or written.
    """
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_assets(order), ensure_ascii=False, indent=1)
    (out / "assets.json").write_text(text + "\n", encoding="utf-8")
    with (
        (out / "manifest.jsonl").open("w", encoding="utf-8") as manifest,
        (out / "parts.jsonl").open("w", encoding="utf-8") as parts,
    ):
        for index in range(order.count):
            sample = generate(order.seed, index, assets=order.assets)
            name = f"{index:06d}-{sample.kind}.jpg"
            sample.image.save(out / name, "JPEG", quality=QUALITY)
            row = {
                "image": name,
                "category": sample.category,
                "level": sample.level,
                "group": sample.group,
                "source": f"generated/{sample.kind}",
            }
            manifest.write(json.dumps(row, ensure_ascii=False) + "\n")
            parts.write(json.dumps({"image": name, **sample.parts}, ensure_ascii=False) + "\n")


def _assets(order: Order) -> dict[str, object]:
    return {
        "generator": "safevlm_training.icons",
        "version": __version__,
        "seed": order.seed,
        "count": order.count,
        "split": order.assets.split,
        "labels": {"file": order.table.name, "sha256": hashlib.sha256(order.table.read_bytes()).hexdigest()},
        "icons": sources([icon.path for icon in order.assets.icons], (order.icon_folder,)),
        "backgrounds": sources(order.assets.backgrounds, order.background_folders),
    }
