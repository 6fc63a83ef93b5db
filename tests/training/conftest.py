"""Tiny configurations, and three small worlds: one to evaluate in, one to attack in and one to train in."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sysconfig
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel

from safevlm_sdk.manifest import Calibration, Thresholds
from safevlm_sdk.preprocess import Preprocessing, preprocess
from safevlm_sdk.taxonomy import load_taxonomy
from safevlm_training.checkpoint import CheckpointCalibration
from safevlm_training.config import SafetyConfig, TowerConfig, edge_config, paper_config
from safevlm_training.evaluation.evaluate import Evaluation, evaluate_checkpoint
from safevlm_training.evaluation.hardening import Hardened, harden
from safevlm_training.modules import SafetyModules
from safevlm_training.quiet import quiet
from safevlm_training.risk_model import RiskModel
from safevlm_training.towers.load import describe_tower
from safevlm_training.train import train
from safevlm_training.vlm.tiny import tiny_vlm

MakeConfig = Callable[..., SafetyConfig]
TINY: dict[str, dict[str, Any]] = {
    "edge": {"width": 16, "num_queries": 3, "num_heads": 4, "num_tokens": 5, "num_llm_tokens": 2, "llm_width": 12},
    "paper": {"width": 16, "num_queries": 1, "num_heads": 4, "num_tokens": 5, "num_llm_tokens": 6},
}


@pytest.fixture(scope="session")
def make_config() -> Callable[..., SafetyConfig]:
    """Makes a tiny configuration of either preset; any field may be changed."""

    def make(preset: str = "edge", **changes: Any) -> SafetyConfig:
        build = edge_config if preset == "edge" else paper_config
        fields: dict[str, Any] = {
            "tower": TowerConfig(
                kind="efficientnet-lite0",
                name="efficientnet-lite0",
                revision=None,
                tap="hidden:-2",
                digest="sha256:" + "0" * 64,
            ),
            "grid": (3, 4),
            "feature_width": 20,
            "taxonomy": load_taxonomy(),
            "coverage": {"privacy": "Documents.", "illegal_risk": "Weapons."},
            "preprocessing": Preprocessing(
                resize="exact",
                height=96,
                width=128,
                shortest_edge=None,
                resample="bicubic",
                rescale_factor=1 / 255,
                mean=(0.5, 0.5, 0.5),
                std=(0.5, 0.5, 0.5),
            ),
        }
        return build(**fields | TINY[preset] | changes)

    return make


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny kernels are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draw(path: Path, rng: np.random.Generator, kind: str, *, size: int = 64, side: int = 30) -> None:
    """Saves noise with a red square, a green one or, if it is safe, a blue circle."""
    image = Image.fromarray(rng.integers(100, 160, (size, size, 3), dtype=np.uint8))
    left, top = (int(value) for value in rng.integers(2, 20, 2))
    box, pen = (left, top, left + side, top + side), ImageDraw.Draw(image)
    if kind == "safe":
        pen.ellipse(box, fill=(10, 10, 250))
    else:
        pen.rectangle(box, fill={"privacy": (250, 10, 10), "illegal_risk": (10, 250, 10)}[kind])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def calibrated(model: RiskModel, temperature: float, each: float, any_risk: float) -> CheckpointCalibration:
    risks = model.config.coverage
    note = Calibration(
        method="temperature", temperature=temperature, risky_groups=5, safe_groups=9, note="For a test."
    )
    thresholds = Thresholds(categories=dict.fromkeys(risks, each), any=any_risk)
    return CheckpointCalibration(calibration=note, thresholds=thresholds)


@pytest.fixture(scope="session")
def hostile_name() -> str:
    """A file name that a page or a terminal must not take at its word; one photo of `eval_world` has it."""
    return "<img src=x onerror=alert(1)>\x1b[31m.png"


def save_model(folder: Path, threshold: float) -> None:
    tower, described, preprocessing = describe_tower("efficientnet-lite0", "hidden:4", image_size=64)
    config = edge_config(
        tower=described, grid=tower.grid, feature_width=tower.feature_width, taxonomy=load_taxonomy(),
        coverage={"privacy": "Red.", "illegal_risk": "Green."}, preprocessing=preprocessing, width=16,
    )  # fmt: skip
    torch.manual_seed(0)
    model = RiskModel(tower, SafetyModules(config))
    model.save_pretrained(folder, calibration=calibrated(model, 0.3, threshold, threshold))


@pytest.fixture(scope="session")
def eval_world(tmp_path_factory: pytest.TempPathFactory, hostile_name: str) -> Path:
    """A checkpoint whose thresholds flag about half of the images, and 61 images in three sources; for reading."""
    root = tmp_path_factory.mktemp("eval-world")
    rng = np.random.default_rng(0)
    for number in range(12):
        draw(root / f"images/privacy/high/{number}.png", rng, "privacy")
        draw(root / f"images/illegal_risk/{number}.png", rng, "illegal_risk")
        draw(root / f"images/safe/{number}.png", rng, "safe")
        draw(root / f"photos/deep/{number}.png", rng, "safe")
    draw(root / "photos" / hostile_name, rng, "privacy")
    lines = []
    for number in range(12):
        draw(root / f"rows/{number}.png", rng, ("privacy", "safe")[number % 2])
        row = {"image": f"rows/{number}.png", "category": ("privacy", "safe")[number % 2], "split": "train"}
        lines.append(json.dumps(row | {"group": f"g{number // 4}", "source": "drawn"}))
    (root / "rows.jsonl").write_text("\n".join(lines))
    save_model(root / "checkpoint", 0.5)
    found = evaluate_checkpoint(root / "checkpoint", sources_of(root), resamples=100, progress=False)
    save_model(root / "checkpoint", round(float(np.median([one.score or 0 for one in found.sample.decisions])), 4))
    return root


def sources_of(root: Path) -> list[str]:
    return [f"{root}/images", f"safe={root}/photos", f"{root}/rows.jsonl"]


@pytest.fixture
def eval_data(eval_world: Path) -> list[str]:
    """The three sources of `eval_world`, as the command takes them."""
    return sources_of(eval_world)


@pytest.fixture(scope="session")
def evaluated(eval_world: Path) -> Evaluation:
    """The evaluation of all three sources; it must not be changed."""
    images = [f"{eval_world}/images"]
    return evaluate_checkpoint(
        eval_world / "checkpoint", sources_of(eval_world), probe_data=images, resamples=100, progress=False
    )


@pytest.fixture(scope="session")
def hardened(eval_world: Path, evaluated: Evaluation) -> Hardened:
    """The same checkpoint corrupted and attacked, and judging what was made against it."""
    folder = eval_world / "checkpoint"
    return harden(folder, evaluated, corrupted=2, attacked=1, transfer_to=[folder], progress=False)


def noisy_shape(number: int, *, risky: bool) -> np.ndarray:
    rng = np.random.default_rng([number, int(risky)])
    image = Image.fromarray(rng.integers(90, 170, (72, 96, 3), dtype=np.uint8))
    left, top = (int(value) for value in rng.integers(4, 36, 2))
    box, pen = (left, top, left + 30, top + 30), ImageDraw.Draw(image)
    if risky:
        pen.rectangle(box, fill=(220, 40, 40))
    else:
        pen.ellipse(box, fill=(40, 40, 220))
    return np.asarray(image)


@pytest.fixture(scope="session")
def picture() -> Callable[..., np.ndarray]:
    """Makes noise, by its number, with a red square, which is risky, or with a blue circle."""
    return noisy_shape


@pytest.fixture(scope="session")
def make_gate(make_config: MakeConfig) -> Callable[..., Path]:
    """Trains a head on the published tower to tell pictures apart, and saves it with thresholds."""

    def make(folder: Path, seed: int, **changes: object) -> Path:
        torch.manual_seed(seed)
        tower, described, preprocessing = describe_tower("efficientnet-lite0", "hidden:3", image_size=64)
        fields = {"tower": described, "grid": tower.grid, "feature_width": tower.feature_width}
        model = RiskModel(tower, SafetyModules(make_config(**fields, preprocessing=preprocessing, **changes)))
        pictures = [noisy_shape(number, risky=risky) for number in range(100, 112) for risky in (True, False)]
        truth = torch.tensor([0, len(model.config.labels) - 1] * 12)
        with torch.no_grad():
            features = tower(torch.from_numpy(np.stack([preprocess(pixels, preprocessing) for pixels in pictures])))
        optimizer = torch.optim.Adam(model.safety.parameters(), lr=0.01)
        for _ in range(40):
            optimizer.zero_grad()
            logits = model.safety(features).type_logits
            torch.nn.functional.cross_entropy(logits, truth, label_smoothing=0.1).backward()
            optimizer.step()
        model.eval().save_pretrained(folder, calibration=calibrated(model, 1.5, 0.5, 0.6))
        return folder

    return make


@pytest.fixture(scope="session")
def checkpoints(make_gate: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same gate from two seeds; for reading."""
    folder = tmp_path_factory.mktemp("gates")
    return make_gate(folder / "first", 0), make_gate(folder / "second", 1)


@pytest.fixture(scope="session")
def train_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny tower, 40 images in a folder and 10 in a JSONL file."""
    root = tmp_path_factory.mktemp("train-world")
    torch.manual_seed(0)
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    CLIPVisionModel(CLIPVisionConfig(**vision, image_size=32, patch_size=8)).save_pretrained(root / "tower")
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessorPil(**size).save_pretrained(root / "tower")
    rng = np.random.default_rng(0)
    for number in range(20):
        draw(root / f"images/privacy/{'high/' if number < 5 else ''}{number}.png", rng, "privacy", size=40, side=16)
        draw(root / f"images/safe/{number}.png", rng, "safe", size=40, side=16)
    lines = []
    for number in range(10):
        category = ("privacy", "safe")[number % 2]
        draw(root / f"more/{number}.png", rng, category, size=40, side=16)
        lines.append(json.dumps({"image": f"more/{number}.png", "category": category, "group": f"g{number // 2}"}))
    (root / "rows.jsonl").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="session")
def workspace(train_world: Path) -> Callable[..., Path]:
    """Makes a folder beside the data with a recipe, whose text may be changed; returns the recipe."""
    numbers = count()

    def make(name: str, *changes: tuple[str, str]) -> Path:
        folder = train_world / f"{next(numbers)}-{name}"
        folder.mkdir()
        text = (Path(__file__).parent / "train_recipe.toml").read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (folder / "recipe.toml").write_text(text)
        return folder / "recipe.toml"

    return make


@pytest.fixture(scope="session")
def trained(workspace: Callable[..., Path]) -> Path:
    """The checkpoint of the recipe as it stands; for reading."""
    return train(workspace("trained"), progress=False)


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Reads every file of a folder."""
    return lambda folder: {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="session")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny LLaVA and its processor; for reading."""
    folder = tmp_path_factory.mktemp("llava")
    with quiet():
        model, processor = tiny_vlm("llava")
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The /v1 of `transformers serve`, which loads whatever model a request names."""
    home = tmp_path_factory.mktemp("home")
    (home / "hub").mkdir()  # its list of models fails without
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        Path(sysconfig.get_path("scripts"), "transformers"),
        "serve",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--device",
        "cpu",
    ]
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--dtype", "float32"], env=environment, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True
    )
    said = []
    for line in process.stdout:
        said.append(line)
        if "Uvicorn running" in line:
            break
    assert process.poll() is None, "".join(said)
    rest = threading.Thread(target=process.stdout.read)  # a full pipe would stop the server
    rest.start()
    yield f"http://127.0.0.1:{port}/v1"
    process.terminate()
    process.wait(60)
    rest.join(60)
    process.stdout.close()
