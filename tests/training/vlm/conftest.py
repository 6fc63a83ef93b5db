"""A small world to train SafeVLM in: a tiny LLaVA, 48 images, and what was said about most of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from safevlm_training.vlm.proof_model import proof_model
from safevlm_training.vlm.safe_vlm import SafeVLM
from safevlm_training.vlm.tiny import tiny_vlm

SPLITS = ("train", "train", "validation", "calibration")
RECIPE = """
schema = 1
[model]
tower = "../vlm"
tap = "hidden:-2"
width = 16
[model.coverage]
privacy = "Red squares."
[[data]]
name = "shapes"
kind = "jsonl"
path = "../rows.jsonl"
license = "CC0-1.0"
[train]
epochs = 2
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


def shape(number: int, *, risky: bool) -> Image.Image:
    """Noise with a red square, which is risky, or with a blue circle."""
    rng = np.random.default_rng(number)
    image = Image.fromarray(rng.integers(100, 160, (40, 44, 3), dtype=np.uint8))
    left, top = (int(value) for value in rng.integers(2, 20, 2))
    box, pen = (left, top, left + 16, top + 16), ImageDraw.Draw(image)
    if risky:
        pen.rectangle(box, fill=(250, 10, 10))
    else:
        pen.ellipse(box, fill=(10, 10, 250))
    return image


@pytest.fixture
def model(llava: Path) -> SafeVLM:
    """SafeVLM around a tiny LLaVA, made anew for every test."""
    return proof_model(*tiny_vlm("llava"), str(llava))


@pytest.fixture(scope="session")
def stage_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that recipes of `stage_recipe` lie in; for reading."""
    root = tmp_path_factory.mktemp("stage-world")
    model, processor = tiny_vlm("llava")
    model.save_pretrained(root / "vlm")
    processor.save_pretrained(root / "vlm")
    (root / "images").mkdir()
    lines = []
    for number in range(48):
        risky = number % 2 == 0
        shape(number, risky=risky).save(root / f"images/{number}.png")
        row = {"image": f"images/{number}.png", "category": "privacy" if risky else "safe"}
        row |= {"split": SPLITS[number // 2 % 4]}
        if number % 5:
            row |= {"question": "What is it?", "answer": "I may not say." if risky else "A ball."}
        lines.append(json.dumps(row))
    (root / "rows.jsonl").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="session")
def stage_recipe(stage_world: Path) -> Callable[..., Path]:
    """Writes a recipe into a folder of its own: its text with changes, and further tables at the end."""
    numbers = count()

    def make(*changes: tuple[str, str], lm: str | None = "", lora: str | None = None) -> Path:
        folder = stage_world / f"run-{next(numbers)}"
        folder.mkdir()
        text = RECIPE
        if lm is not None:
            text = text.replace("[train]\n", '[train]\nobjective = "risk+lm"\n') + f"[lm]\n{lm}\n"
        if lora is not None:
            text += f"[lora]\n{lora}\n"
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (folder / "recipe.toml").write_text(text)
        return folder / "recipe.toml"

    return make
