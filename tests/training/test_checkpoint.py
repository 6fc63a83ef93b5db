from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import safetensors.torch
import torch

from safevlm_sdk.errors import CheckpointError
from safevlm_sdk.manifest import Calibration, Thresholds
from safevlm_training import checkpoint
from safevlm_training.checkpoint import (
    CheckpointCalibration,
    checkpoint_digest,
    load_calibration,
    load_modules,
    save_checkpoint,
)
from safevlm_training.config import SafetyConfig, TowerConfig, load_config
from safevlm_training.modules import SafetyModules
from safevlm_training.risk_model import RiskModel
from safevlm_training.towers.load import describe_tower
from safevlm_training.towers.tower import Tower

MakeConfig = Callable[..., SafetyConfig]


@pytest.fixture
def calibration() -> CheckpointCalibration:
    return CheckpointCalibration(
        calibration=Calibration(method="temperature", temperature=1.7, risky_groups=5, safe_groups=9, note="Here."),
        thresholds=Thresholds(categories={"privacy": 0.4, "illegal_risk": 0.6}, any=0.8),
    )


def model_at(make_config: MakeConfig, tower: tuple[Tower, TowerConfig, Any]) -> RiskModel:
    torch.manual_seed(3)
    config = make_config(
        tower=tower[1], grid=tower[0].grid, feature_width=tower[0].feature_width, preprocessing=tower[2]
    )
    return RiskModel(tower[0], SafetyModules(config)).eval()


@pytest.fixture
def risk_model(make_config: MakeConfig) -> RiskModel:
    return model_at(make_config, describe_tower("efficientnet-lite0", "hidden:10", image_size=64))


@pytest.mark.parametrize("preset", ["edge", "paper"])
def test_modules_survive_saving(
    make_config: MakeConfig, tmp_path: Path, calibration: CheckpointCalibration, preset: str
) -> None:
    modules = SafetyModules(make_config(preset)).eval()
    save_checkpoint(tmp_path / "new" / "c", modules, calibration=calibration, training={"seed": 1})
    loaded = load_modules(tmp_path / "new" / "c")
    features = torch.randn(2, 12, 20)
    assert loaded(features).type_logits.equal(modules(features).type_logits)
    assert loaded.config == modules.config
    assert not loaded.training
    assert [name for name, _ in loaded.named_parameters()] == [name for name, _ in modules.named_parameters()]
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert load_calibration(tmp_path / "new" / "c") == calibration
    assert json.loads((tmp_path / "new" / "c" / "training.json").read_text()) == {"seed": 1}
    assert sorted(file.name for file in (tmp_path / "new" / "c").iterdir()) == [
        "README.md",
        "calibration.json",
        "config.json",
        "safety.safetensors",
        "training.json",
    ]


def test_saving_again_leaves_nothing_stale(
    make_config: MakeConfig, tmp_path: Path, calibration: CheckpointCalibration
) -> None:
    modules = SafetyModules(make_config())
    save_checkpoint(tmp_path, modules, calibration=calibration, training={}, tower={"weight": torch.zeros(2)})
    save_checkpoint(tmp_path, modules)
    assert load_calibration(tmp_path) is None
    assert {file.name for file in tmp_path.iterdir()} == {"README.md", "config.json", "safety.safetensors"}


def test_card_says_what_is_covered_and_what_is_not(
    make_config: MakeConfig, tmp_path: Path, calibration: CheckpointCalibration
) -> None:
    modules = SafetyModules(make_config())
    save_checkpoint(tmp_path, modules)
    card = (tmp_path / "README.md").read_text()
    assert "| `privacy` | Documents. |" in card
    assert "`politics`, `insults_bullying`, `fairness`, `misleading`" in card
    assert "Not calibrated" in card
    save_checkpoint(tmp_path, modules, calibration=calibration)
    assert "temperature 1.7" in (tmp_path / "README.md").read_text()
    save_checkpoint(tmp_path, modules, card="# Mine\n")
    assert (tmp_path / "README.md").read_text() == "# Mine\n"


@pytest.mark.parametrize("claim", ["ID cards | passports.", "ID cards\nand passports."])
def test_no_claim_breaks_the_table(make_config: MakeConfig, tmp_path: Path, claim: str) -> None:
    save_checkpoint(tmp_path, SafetyModules(make_config(coverage={"privacy": claim, "illegal_risk": "Weapons."})))
    card = (tmp_path / "README.md").read_text()
    assert f"| `privacy` | {' '.join(claim.split()).replace('|', chr(92) + '|')} |\n| `illegal_risk` |" in card


def test_a_write_cut_short_leaves_nothing_that_loads(
    make_config: MakeConfig, tmp_path: Path, calibration: CheckpointCalibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = SafetyModules(make_config())
    save_checkpoint(tmp_path, modules)
    real = checkpoint._write

    def full(file: Path, data: bytes | None) -> None:
        if file.name == "README.md":
            raise OSError(28, "No space left on device")
        real(file, data)

    monkeypatch.setattr(checkpoint, "_write", full)
    with pytest.raises(CheckpointError, match="No space left"):
        save_checkpoint(tmp_path, modules, calibration=calibration)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_modules(tmp_path)


def test_digest_is_of_what_decides(
    make_config: MakeConfig, tmp_path: Path, calibration: CheckpointCalibration
) -> None:
    modules = SafetyModules(make_config())
    save_checkpoint(tmp_path, modules, training={"seed": 1})
    seen = [checkpoint_digest(tmp_path)]
    assert seen[0].startswith("sha256:")
    save_checkpoint(tmp_path, modules, training={"seed": 2}, card="other")
    assert checkpoint_digest(tmp_path) == seen[0]
    save_checkpoint(tmp_path, modules, calibration=calibration)
    seen.append(checkpoint_digest(tmp_path))
    save_checkpoint(tmp_path, modules, tower={"weight": torch.zeros(2)})
    seen.append(checkpoint_digest(tmp_path))
    modules.head.readout.types.bias.data += 1
    save_checkpoint(tmp_path, modules)
    seen.append(checkpoint_digest(tmp_path))
    modules.config = make_config(raster_max_side=99)
    save_checkpoint(tmp_path, modules)
    seen.append(checkpoint_digest(tmp_path))
    assert len(set(seen)) == 5


def test_thresholds_must_be_for_the_covered_risks(
    make_config: MakeConfig, tmp_path: Path, calibration: CheckpointCalibration
) -> None:
    modules = SafetyModules(make_config())
    wrong = msgspec.structs.replace(calibration, thresholds=Thresholds(categories={"privacy": 0.5}, any=0.5))
    with pytest.raises(CheckpointError, match=r"thresholds are for \['privacy'\]"):
        save_checkpoint(tmp_path, modules, calibration=wrong)
    save_checkpoint(tmp_path, modules, calibration=calibration)
    file = tmp_path / "calibration.json"
    file.write_text(file.read_text().replace("privacy", "politics"))
    with pytest.raises(CheckpointError, match=r"calibration\.json.*politics"):
        load_calibration(tmp_path)
    file.write_text("{}")
    with pytest.raises(CheckpointError, match=r"calibration\.json.*calibration"):
        load_calibration(tmp_path)


def damage(edit: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    def damaged(data: bytes) -> bytes:
        state = safetensors.torch.load(data)
        edit(state)
        return safetensors.torch.save(state)

    return damaged


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-4], "no safetensors file"),
        (lambda data: b"", "no safetensors file"),
        (lambda data: b"\x80\x04pickle", "no safetensors file"),
        (damage(lambda state: state.pop("head.query")), r"missing \['head.query'\]"),
        (damage(lambda state: state.update(extra=torch.zeros(1))), r"unknown \['extra'\]"),
        (damage(lambda state: state.update({"head.query": torch.zeros(3, 17)})), r"head.query is .*\[3, 17\]"),
        (damage(lambda state: state.update({"head.query": state["head.query"].half()})), "float16"),
    ],
)
def test_damaged_weights_are_refused(
    make_config: MakeConfig, tmp_path: Path, change: Callable[[bytes], bytes], message: str
) -> None:
    save_checkpoint(tmp_path, SafetyModules(make_config()))
    file = tmp_path / "safety.safetensors"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(CheckpointError, match=message) as caught:
        load_modules(tmp_path)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "safety.safetensors"])
def test_missing_files_are_refused(make_config: MakeConfig, tmp_path: Path, name: str) -> None:
    save_checkpoint(tmp_path, SafetyModules(make_config()))
    (tmp_path / name).unlink()
    for read in (load_modules, checkpoint_digest):
        with pytest.raises(CheckpointError, match=name):
            read(tmp_path)


def test_a_folder_that_cannot_be_written_is_said(make_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_checkpoint(tmp_path / "file", SafetyModules(make_config()))


def test_risk_model_survives_saving(
    risk_model: RiskModel, tmp_path: Path, calibration: CheckpointCalibration
) -> None:
    risk_model.save_pretrained(tmp_path, calibration=calibration)
    assert not (tmp_path / "tower.safetensors").exists()
    loaded = RiskModel.from_pretrained(tmp_path)
    pixels = torch.randn(2, 3, 64, 64)
    ours, features = loaded(pixels)
    theirs, expected = risk_model(pixels)
    assert ours.type_logits.equal(theirs.type_logits)
    assert features.equal(expected)
    assert features.shape == (2, 16, 112)
    given = RiskModel.from_pretrained(tmp_path, tower=risk_model.tower)
    assert given(pixels)[0].type_logits.equal(theirs.type_logits)


def test_a_tuned_tower_travels_along(risk_model: RiskModel, tmp_path: Path) -> None:
    published = risk_model.config.tower.digest
    first = next(risk_model.tower.parameters())
    first.data *= 1.5
    pixels = torch.randn(1, 3, 64, 64)
    expected = risk_model(pixels)[0].type_logits
    risk_model.save_pretrained(tmp_path / "a")
    assert load_config(tmp_path / "a").tower.digest == risk_model.tower.digest != published
    loaded = RiskModel.from_pretrained(tmp_path / "a")
    assert loaded(pixels)[0].type_logits.equal(expected)
    loaded.save_pretrained(tmp_path / "b")
    assert RiskModel.from_pretrained(tmp_path / "b")(pixels)[0].type_logits.equal(expected)
    assert checkpoint_digest(tmp_path / "a") == checkpoint_digest(tmp_path / "b")
    file = tmp_path / "a" / "tower.safetensors"
    assert list(safetensors.torch.load(file.read_bytes())) == ["_conv_stem.weight"]
    file.write_bytes(safetensors.torch.save({"other": torch.zeros(1)}))
    with pytest.raises(CheckpointError, match="tuned weights do not fit"):
        RiskModel.from_pretrained(tmp_path / "a")
    file.unlink()
    with pytest.raises(CheckpointError, match=published):
        RiskModel.from_pretrained(tmp_path / "a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-4], "no safetensors file"),
        (damage(lambda state: state.pop("_blocks.9._bn1.bias")), "but the gate was trained with"),
        (damage(lambda state: state["_blocks.9._bn1.bias"].add_(1)), "but the gate was trained with"),
        (damage(lambda state: state.clear()), "unknown: \\[\\], of 0"),
        (damage(lambda state: state.update(extra=torch.zeros(1))), r"unknown: \['extra'\], of 10"),
        (damage(lambda state: state.update({"_blocks.9._bn1.bias": torch.zeros(3)})), r"_bn1\.bias is .*\[3\]"),
        (damage(lambda state: state.update({"_blocks.9._bn1.bias": torch.zeros(672).half()})), "float16"),
    ],
)
def test_damaged_tuned_weights_are_refused(
    risk_model: RiskModel, tmp_path: Path, change: Callable[[bytes], bytes], message: str
) -> None:
    for parameter in risk_model.tower.last_blocks(2)[0].parameters():
        parameter.data += 0.01
    risk_model.save_pretrained(tmp_path)
    file = tmp_path / "tower.safetensors"
    names = sorted(safetensors.torch.load(file.read_bytes()))
    assert len(names) == 9
    assert {name[:10] for name in names} == {"_blocks.9."}
    RiskModel.from_pretrained(tmp_path)
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(CheckpointError, match=message):
        RiskModel.from_pretrained(tmp_path)


def test_another_tower_is_refused_with_both_digests(risk_model: RiskModel, tmp_path: Path) -> None:
    risk_model.save_pretrained(tmp_path)
    trained = risk_model.config.tower.digest
    tower = describe_tower("efficientnet-lite0", "hidden:10", image_size=64)[0]
    next(tower.parameters()).data += 1
    with pytest.raises(CheckpointError, match=f"{tower.digest}.*{trained}"):
        RiskModel.from_pretrained(tmp_path, tower=tower)


def test_a_tower_of_other_shape_is_refused(risk_model: RiskModel) -> None:
    tower = describe_tower("efficientnet-lite0", "hidden:-2", image_size=64)[0]
    with pytest.raises(CheckpointError, match="width 320"):
        RiskModel(tower, risk_model.safety)


def test_training_mode_never_reaches_the_tower(risk_model: RiskModel) -> None:
    risk_model.train()
    assert risk_model.safety.training
    assert not any(module.training for module in risk_model.tower.modules())
    output, _ = risk_model(torch.randn(2, 3, 64, 64))
    output.type_logits.sum().backward()
    assert all(parameter.grad is None for parameter in risk_model.tower.parameters())
