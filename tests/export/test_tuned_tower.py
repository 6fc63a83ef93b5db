"""A checkpoint whose tower was tuned is exported with the tuned weights, and never without them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from safevlm_export.export import ExportOptions, export_checkpoint
from safevlm_sdk import Runtime
from safevlm_sdk.errors import CheckpointError
from safevlm_sdk.preprocess import preprocess
from safevlm_sdk.taxonomy import load_taxonomy
from safevlm_training.config import edge_config
from safevlm_training.modules import SafetyModules
from safevlm_training.risk_model import RiskModel
from safevlm_training.towers.load import describe_tower

SIZES = {"width": 16, "num_queries": 2, "num_heads": 2, "num_tokens": 3, "num_llm_tokens": 2}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    tower, described, preprocessing = describe_tower("efficientnet-lite0", "hidden:6", image_size=64)
    torch.manual_seed(0)
    config = edge_config(
        tower=described,
        grid=tower.grid,
        feature_width=tower.feature_width,
        taxonomy=load_taxonomy(),
        coverage={"privacy": "Documents."},
        preprocessing=preprocessing,
        **SIZES,
    )
    model = RiskModel(tower, SafetyModules(config))
    for block in tower.last_blocks(2):
        for parameter in block.parameters():
            parameter.data *= 1.1
    model.save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def test_the_graph_has_the_tuned_weights(checkpoint: Path, tmp_path: Path) -> None:
    model = RiskModel.from_pretrained(checkpoint)
    report = export_checkpoint(checkpoint, tmp_path / "bundle", ExportOptions(license="Apache-2.0"))
    published = describe_tower("efficientnet-lite0", "hidden:6", image_size=64)[0]
    identity = report.manifest.identity
    assert identity.tower_digest == model.config.tower.digest != published.digest
    pixels = np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8)
    with torch.inference_mode():
        output, _ = model(torch.from_numpy(preprocess(pixels, model.config.preprocessing))[None])
        other = model.safety(published(torch.from_numpy(preprocess(pixels, model.config.preprocessing))[None]))
    expected, wrong = (float(one.type_logits.softmax(1)[0, 0]) for one in (output, other))
    with Runtime.load(tmp_path / "bundle", allow_uncalibrated=True) as runtime:
        assert runtime.check(pixels).score == pytest.approx(expected, abs=1e-4)
    assert abs(expected - wrong) > 1e-3


def test_without_its_tuned_weights_nothing_is_exported(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "tower.safetensors").unlink()
    with pytest.raises(CheckpointError, match="but the gate was trained with"):
        export_checkpoint(checkpoint, tmp_path / "bundle", ExportOptions(license="Apache-2.0"))
    assert not (tmp_path / "bundle").exists()
