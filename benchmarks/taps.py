"""Whether the gate learns at both taps of every family: a hidden layer, and the model's own image embeddings.

    python benchmarks/taps.py [--images 120] [--held-out 100] [--epochs 4] [--families llava qwen2_vl …]

Each family's tiny model, with random weights, is saved to a folder; `safevlm train` trains the gate on its tower with
tap = "hidden:-2" and with tap = "projected", on generated squares and circles that fill the tower's view, and
`safevlm eval` measures it on others. Random towers show that both taps carry what the gate needs, and what each
costs; they do not show which is better on trained weights. Times are CPU time of this process, features included;
compare only what stands in one run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from PIL import Image, ImageDraw

from safevlm_runtime.bench.card import machine_card
from safevlm_training.evaluation.evaluate import evaluate_checkpoint
from safevlm_training.quiet import quiet
from safevlm_training.risk_model import RiskModel
from safevlm_training.train import train
from safevlm_training.vlm.gate_view import base_side, block_side, takes_any_size
from safevlm_training.vlm.tiny import FAMILIES, tiny_vlm
from safevlm_training.vlm.vision_parts import VisionParts, find_vision

TAPS = ("hidden:-2", "projected")
SIDE = 112  # pixels, about, of the view of towers that take any size
SPLITS = ("train", "train", "validation", "calibration")
HELD_OUT = 1_000_000  # added to the numbers of held-out pictures
RECIPE = """
schema = 1
[model]
tower = "vlm"
tap = "{tap}"
width = 16
{size}
[model.coverage]
privacy = "Red squares."
[[data]]
name = "shapes"
kind = "jsonl"
path = "rows.jsonl"
license = "CC0-1.0"
[train]
epochs = {epochs}
batch_size = 8
lr = 0.01
[cache]
dtype = "float32"
[calibration]
flag_at_most = 0.2
[output]
path = "out"
name = "Shapes"
license = "Apache-2.0"
"""


def picture(number: int, side: int, *, risky: bool) -> Image.Image:
    """Noise with a red square, which is risky, or with a blue circle, on a square of `side` pixels."""
    rng = np.random.default_rng(number)
    image = Image.fromarray(rng.integers(100, 160, (side, side, 3), dtype=np.uint8))
    shape = 2 * side // 5
    left, top = (int(value) for value in rng.integers(0, side - shape, 2))
    box, pen = (left, top, left + shape, top + shape), ImageDraw.Draw(image)
    if risky:
        pen.rectangle(box, fill=(250, 10, 10))
    else:
        pen.ellipse(box, fill=(10, 10, 250))
    return image


def write_rows(folder: Path, name: str, count: int, side: int, *, held_out: bool) -> Path:
    """Pictures and their labels as JSON lines, half of them risky."""
    (folder / name).mkdir()
    lines = []
    for number in range(count):
        risky = number % 2 == 0
        place = f"{name}/{number}.png"
        picture(number + HELD_OUT * held_out, side, risky=risky).save(folder / place)
        row = {"image": place, "category": "privacy" if risky else "safe"}
        lines.append(json.dumps(row if held_out else row | {"split": SPLITS[number // 2 % 4]}))
    path = folder / f"{name}.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def view_side(parts: VisionParts) -> int:
    if not takes_any_size(parts):
        return base_side(parts)
    return SIDE // block_side(parts) * block_side(parts)


def measure(family: str, folder: Path, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Per tap: width and number of its tokens, AUROC on held-out pictures, and CPU seconds of training."""
    with quiet():
        model, processor = tiny_vlm(family)
        model.save_pretrained(folder / "vlm")
        processor.save_pretrained(folder / "vlm")
    parts = find_vision(model)
    side = view_side(parts)
    write_rows(folder, "rows", options.images, side, held_out=False)
    others = write_rows(folder, "others", options.held_out, side, held_out=True)
    size = f"image_size = {side}" if takes_any_size(parts) else ""
    found = {}
    for tap in TAPS:
        recipe = folder / f"{tap.partition(':')[0]}.toml"
        recipe.write_text(RECIPE.format(tap=tap, size=size, epochs=options.epochs), encoding="utf-8")
        start = time.process_time()
        checkpoint = train(recipe, out=folder / recipe.stem, progress=False)
        seconds = time.process_time() - start
        report = evaluate_checkpoint(checkpoint, [str(others)], resamples=100, progress=False).report
        config = RiskModel.from_pretrained(checkpoint).config
        found[tap] = {
            "width": config.feature_width,
            "tokens": config.grid[0] * config.grid[1],
            "auroc": report["any_risk"]["auroc"].value,
            "cpu_seconds": seconds,
        }
    return found


def table(result: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Markdown."""
    head = "| family | hidden:-2: width x tokens | AUROC | projected: width x tokens | AUROC | CPU time of training |"
    lines = [head, "| --- " * 6 + "|"]
    for family, taps in result.items():
        cells = [f"{one['width']} x {one['tokens']} | {one['auroc']:.3f}" for one in taps.values()]
        hidden, projected = (taps[tap]["cpu_seconds"] for tap in TAPS)
        lines.append(f"| `{family}` | {cells[0]} | {cells[1]} | {projected / hidden:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=120, help="half of them train")
    parser.add_argument("--held-out", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, metavar="FAMILY", default=list(FAMILIES))
    options = parser.parse_args()
    card = msgspec.to_builtins(machine_card())
    card |= {"torch": str(torch.__version__), "threads": torch.get_num_threads()}
    card |= {"images": options.images, "held_out": options.held_out, "epochs": options.epochs}
    for name, value in card.items():
        print(f"{name}: {value}")
    result = {}
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "warm").mkdir()
        measure(options.families[0], Path(name) / "warm", options)  # imports and caches are no part of a time
        for family in options.families:
            folder = Path(name) / family
            folder.mkdir()
            result[family] = measure(family, folder, options)
    print(f"\n{table(result)}\n\nThe last column is the time at projected, divided by that at hidden:-2.\n")
    print(json.dumps({"benchmark": "taps", "card": card, "result": result}))


if __name__ == "__main__":
    main()
