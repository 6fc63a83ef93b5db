"""Every public name of `safevlm_training` and `safevlm_export`, as a maker of gates uses it (see public_api.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor
from typing_extensions import assert_type

from safevlm_export import ExportOptions, ExportReport, export_checkpoint, export_from_hf, export_from_onnx
from safevlm_sdk.hub.client import Pushed
from safevlm_sdk.manifest import Calibration, Thresholds
from safevlm_sdk.preprocess import Preprocessing
from safevlm_sdk.taxonomy import load_taxonomy
from safevlm_training import (
    CheckpointCalibration,
    RiskModel,
    SafetyConfig,
    SafetyModules,
    SafetyOutput,
    SafeVLM,
    Tower,
    TowerConfig,
    checkpoint_digest,
    describe_tower,
    edge_config,
    fold,
    load_calibration,
    load_config,
    load_modules,
    load_tower,
    paper_config,
    preprocessing_from_processor,
    save_checkpoint,
)


def configure(processor: Any) -> tuple[SafetyConfig, SafetyConfig]:
    tower, config, preprocessing = describe_tower("openai/clip-vit-large-patch14-336", "hidden:-2", revision="0" * 40)
    assert_type(tower, Tower)
    assert_type(config, TowerConfig)
    assert_type(preprocessing_from_processor(processor), Preprocessing)
    assert_type(load_tower(config, preprocessing), Tower)
    taxonomy, coverage = load_taxonomy(), {"privacy": "Pictures of identity documents."}
    small = edge_config(
        tower=config,
        grid=(24, 24),
        feature_width=1024,
        taxonomy=taxonomy,
        coverage=coverage,
        preprocessing=preprocessing,
    )
    large = paper_config(
        tower=config,
        grid=(24, 24),
        feature_width=1024,
        taxonomy=taxonomy,
        coverage=coverage,
        preprocessing=preprocessing,
    )
    return small, large


def save(config: SafetyConfig, features: Tensor) -> str:
    modules = SafetyModules(config)
    output = modules.forward(features)
    assert_type(output, SafetyOutput)
    assert_type(output.type_logits, Tensor)
    assert_type(fold(modules).forward(features), SafetyOutput)
    calibration = CheckpointCalibration(
        calibration=Calibration(method="temperature", temperature=1.5, risky_groups=5, safe_groups=9, note="Here."),
        thresholds=Thresholds(categories={"privacy": 0.4}, any=0.4),
    )
    save_checkpoint("checkpoint", modules, calibration=calibration)
    assert_type(load_modules("checkpoint"), SafetyModules)
    assert_type(load_config(Path("checkpoint")), SafetyConfig)
    assert_type(load_calibration("checkpoint"), CheckpointCalibration | None)
    return checkpoint_digest("checkpoint")


def share(pixels: Tensor) -> Pushed:
    gate = RiskModel.from_pretrained("owner/gate", revision="0" * 40, digest="sha256:0")
    output, features = gate.forward(pixels)
    assert_type(output, SafetyOutput)
    assert_type(features, Tensor)
    gate.save_pretrained("checkpoint", calibration=load_calibration("checkpoint"), push_to_hub="owner/gate")
    model = SafeVLM.from_pretrained("checkpoints/stage-2", device_map="auto")
    assert_type(model, SafeVLM)
    model.save_pretrained("checkpoint")
    return model.push_to_hub("owner/name", private=True, revision="next")


def export() -> list[ExportReport]:
    options = ExportOptions(calibration_data=Path("photos"), precisions=("fp32", "int8"), max_flips=0)
    bundle, labels = Path("bundle"), Path("map.toml")
    return [
        export_checkpoint(Path("checkpoint"), bundle, options),
        export_from_onnx(Path("model.onnx"), labels, bundle, options),
        export_from_hf("owner/classifier", labels, bundle, options),
    ]
