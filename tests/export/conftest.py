"""Tiny real towers, as checkpoints, exported once per session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, ViTConfig, ViTModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from safevlm_export import proof_images
from safevlm_export.export import ExportOptions, export_checkpoint
from safevlm_export.proof_images import synthetic_images
from safevlm_export.report import ExportReport
from safevlm_sdk.manifest import Calibration, Thresholds
from safevlm_sdk.preprocess import preprocess
from safevlm_sdk.taxonomy import load_taxonomy
from safevlm_training.checkpoint import CheckpointCalibration
from safevlm_training.config import edge_config, paper_config
from safevlm_training.documents import examples
from safevlm_training.modules import SafetyModules
from safevlm_training.risk_model import RiskModel
from safevlm_training.towers.load import describe_tower

VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 48,
    "patch_size": 8,
}
COVERAGE = {"privacy": "Documents.", "illegal_risk": "Weapons."}
SIZES: dict[str, dict[str, Any]] = {
    "edge": {"width": 16, "num_queries": 3, "num_heads": 4, "num_tokens": 5, "num_llm_tokens": 2},
    "paper": {"width": 16, "num_queries": 1, "num_heads": 4, "num_tokens": 5, "num_llm_tokens": 6},
}
CALIBRATED = CheckpointCalibration(
    calibration=Calibration(method="temperature", temperature=1.3, risky_groups=40, safe_groups=60, note="By hand."),
    thresholds=Thresholds(categories={"privacy": 0.4, "illegal_risk": 0.5}, any=0.6),
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """One exported checkpoint."""

    checkpoint: Path
    bundle: Path
    model: RiskModel
    report: ExportReport


def save_tower(folder: Path, kind: str) -> str:
    torch.manual_seed(1)
    if kind == "efficientnet":
        return "efficientnet-lite0"
    model = CLIPVisionModel(CLIPVisionConfig(**VISION)) if kind == "clip" else ViTModel(ViTConfig(**VISION))
    crop = {"size": {"shortest_edge": 48}, "crop_size": {"height": 48, "width": 48}}
    square = {"size": {"height": 48, "width": 48}}
    processor = CLIPImageProcessorPil(**crop) if kind == "clip" else ViTImageProcessorPil(**square)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def save_checkpoint(folder: Path, kind: str, preset: str, *, calibrated: bool, **changes: Any) -> Path:
    name = save_tower(folder / f"tower-{kind}", kind)
    tower, config, preprocessing = describe_tower(name, "hidden:-2")
    build = edge_config if preset == "edge" else paper_config
    fields = {"tower": config, "grid": tower.grid, "feature_width": tower.feature_width, "taxonomy": load_taxonomy()}
    fields |= {"coverage": COVERAGE, "preprocessing": preprocessing, **SIZES[preset], **changes}
    torch.manual_seed(2)
    modules = SafetyModules(build(**fields))
    model = RiskModel(tower, modules)
    pixels = np.stack([preprocess(raster, preprocessing) for _, raster in synthetic_images()])
    with torch.no_grad():  # untrained weights shall decide differently on different images
        for parameter in modules.head.readout.parameters():
            parameter.mul_(40.0)
        modules.head.readout.types.bias -= model(torch.from_numpy(pixels))[0].type_logits.mean(dim=0)
    checkpoint = folder / f"{kind}-{preset}"
    model.save_pretrained(checkpoint, calibration=CALIBRATED if calibrated else None)
    return checkpoint


CASES: dict[str, dict[str, Any]] = {
    "clip-edge": {"kind": "clip", "preset": "edge", "calibrated": True, "llm_width": 12},
    "clip-paper": {"kind": "clip", "preset": "paper", "calibrated": True},
    "vit-edge": {"kind": "vit", "preset": "edge", "calibrated": True},
    "efficientnet-edge": {"kind": "efficientnet", "preset": "edge", "calibrated": False},
}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny kernels are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def drawn() -> list[Any]:
    """The generated examples."""
    return list(examples())


@pytest.fixture
def drawn_once(drawn: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Proof images without drawing the same examples for every export again."""
    monkeypatch.setattr(proof_images, "examples", lambda: drawn)


@pytest.fixture(scope="session")
def case_of(tmp_path_factory: pytest.TempPathFactory, drawn: list[Any]) -> Callable[[str], Case]:
    """An exported checkpoint by name; each is made once, and must not be changed."""

    @cache
    def make(name: str) -> Case:
        folder = tmp_path_factory.mktemp(name)
        checkpoint = save_checkpoint(folder, **CASES[name])
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(proof_images, "examples", lambda: drawn)
            report = export_checkpoint(checkpoint, folder / "bundle", ExportOptions(license="Apache-2.0"))
        model = RiskModel.from_pretrained(checkpoint)
        return Case(checkpoint=checkpoint, bundle=folder / "bundle", model=model, report=report)

    return make
