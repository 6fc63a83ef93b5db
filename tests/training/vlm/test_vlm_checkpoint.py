"""What a SafeVLM checkpoint holds, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from safevlm_sdk.atomic import publish_folder
from safevlm_sdk.calibration.choose import Demand
from safevlm_sdk.calibration.request import Request
from safevlm_sdk.errors import (
    CheckpointError,
    TrainingError,
)
from safevlm_sdk.manifest import Calibration, Thresholds
from safevlm_training.calibrate_checkpoint import calibrate_checkpoint
from safevlm_training.checkpoint import CheckpointCalibration, checkpoint_digest
from safevlm_training.config import load_config
from safevlm_training.plan import is_checkpoint
from safevlm_training.quiet import quiet
from safevlm_training.towers.load import describe_tower
from safevlm_training.vlm.language import language_digest
from safevlm_training.vlm.proof_model import proof_model
from safevlm_training.vlm.safe_vlm import SafeVLM
from safevlm_training.vlm.saving import Metadata
from safevlm_training.vlm.tiny import tiny_vlm

GREEDY: dict[str, Any] = {"max_new_tokens": 3, "do_sample": False}
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
ASK = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}]


@pytest.fixture
def calibration() -> CheckpointCalibration:
    return CheckpointCalibration(
        calibration=Calibration(method="temperature", temperature=2.0, risky_groups=5, safe_groups=9, note="Here."),
        thresholds=Thresholds(categories={"privacy": 0.3, "illegal_risk": 0.3}, any=0.9),
    )


def batch_of(model: SafeVLM, *, safety_tokens: bool = True) -> dict[str, Tensor]:
    options = {"add_generation_prompt": True, "safety_tokens": safety_tokens}
    return dict(model.processor.conversations([ASK], [[PICTURE]], **options))


def test_merged_weights_are_not_lost_silently(model: SafeVLM, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no LoRA adapters that could be merged"):
        model.merge_lora()
    model.add_lora(r=2)
    model.merge_lora()
    with pytest.raises(CheckpointError, match="save before `merge_lora`"):
        model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="has LoRA adapters already"):
        model.add_lora(r=2)


def retarget(folder: Path) -> None:
    file = folder / "lora" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"target_modules": r".*\.q_proj"}))


def other_kind(folder: Path) -> None:
    file = folder / "lora" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"modules_to_save": ["lm_head"]}))


def pickled(folder: Path) -> None:
    weights = folder / "lora" / "adapter_model.safetensors"
    torch.save(safetensors.torch.load(weights.read_bytes()), weights.with_name("adapter_model.bin"))
    weights.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (retarget, r"adapters are on \['model\.vision_tower.*only linear layers of the language model"),
        (other_kind, "only plain LoRA is loaded"),
        (pickled, "has no adapter_model.safetensors"),
        (lambda folder: (folder / "lora/adapter_model.safetensors").write_bytes(b"x"), "the adapters do not load"),
        (lambda folder: (folder / "lora/adapter_config.json").unlink(), "the adapters do not load"),
        (lambda folder: (folder / "processor/safety_processor.json").unlink(), r"safety_processor\.json"),
        (lambda folder: (folder / "processor/tokenizer.json").write_bytes(b"x"), "processor"),
    ],
)
def test_damaged_checkpoints_are_refused(
    model: SafeVLM, tmp_path: Path, damage: Callable[[Path], Any], message: str
) -> None:
    model.add_lora(r=2)
    model.save_pretrained(tmp_path)
    damage(tmp_path)
    with quiet(), pytest.raises(CheckpointError, match=message):
        SafeVLM.from_pretrained(tmp_path)


def test_another_base_model_is_refused_by_name(model: SafeVLM, llava: Path, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    same = SafeVLM.from_pretrained(tmp_path, vlm=tiny_vlm("llava")[0])
    assert same(**batch_of(model)).logits.equal(model(**batch_of(model)).logits)
    with pytest.raises(
        CheckpointError, match=rf"base model {llava}: the vision tower here has digest .*trained with"
    ):
        SafeVLM.from_pretrained(tmp_path, vlm=tiny_vlm("llava", seed=1)[0])
    narrow = msgspec.structs.replace(model.config, llm_width=7)
    model.safety.config = narrow
    with pytest.raises(CheckpointError, match="its language model is 32 wide, but the safety tokens are 7"):
        SafeVLM(model.vlm, model.processor, model.safety)
    model.safety.config = msgspec.structs.replace(narrow, llm_width=32, num_llm_tokens=9)
    with pytest.raises(CheckpointError, match=r"give SafeVLMProcessor\(processor, 9\)"):
        SafeVLM(model.vlm, model.processor, model.safety)
    (tmp_path / "base").mkdir()
    model.safety.config = msgspec.structs.replace(
        model.config, num_llm_tokens=3, tower=msgspec.structs.replace(model.config.tower, name=str(tmp_path / "gone"))
    )
    model.save_pretrained(tmp_path / "lost")
    with pytest.raises(CheckpointError, match=r"base model .*gone: cannot be loaded"):
        SafeVLM.from_pretrained(tmp_path / "lost")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_base_model_may_be_of_another_dtype_than_it_was_saved_in(
    model: SafeVLM, dtype: torch.dtype, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    found = SafeVLM.from_pretrained(tmp_path, dtype=dtype)
    assert next(found.vlm.parameters()).dtype == dtype
    assert next(found.safety.parameters()).dtype == torch.float32


def test_another_language_model_behind_the_same_tower_is_refused(model: SafeVLM, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path, training={"language_model": language_digest(model.vlm)})
    SafeVLM.from_pretrained(tmp_path)
    other, _ = tiny_vlm("llava")
    with torch.no_grad():
        other.get_input_embeddings().weight.mul_(2)
    with pytest.raises(CheckpointError, match="its language model has digest"):
        SafeVLM.from_pretrained(tmp_path, vlm=other)


def test_calibration_keeps_adapters_and_processor(
    llava: Path, calibration: CheckpointCalibration, tmp_path: Path
) -> None:
    _, _, view = describe_tower(str(llava), "hidden:-2")
    model = proof_model(*tiny_vlm("llava"), str(llava), grid=(4, 4), preprocessing=view)
    model.add_lora(r=2)
    model.save_pretrained(tmp_path / "old", calibration=calibration)
    (tmp_path / "safe").mkdir()
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "safe" / f"{number}.png")
    demand = Demand(flag_at_most=0.5)
    calibrate_checkpoint(
        tmp_path / "old", Request(safe=tmp_path / "safe", risky=None, demand=demand, out=tmp_path / "new")
    )
    folders = [tmp_path / "old" / "lora", tmp_path / "old" / "processor"]
    files = [file.relative_to(tmp_path / "old") for folder in folders for file in folder.iterdir()]
    assert len(files) > 4
    assert all((tmp_path / "new" / file).read_bytes() == (tmp_path / "old" / file).read_bytes() for file in files)
    assert SafeVLM.from_pretrained(tmp_path / "new").lora is not None


def test_a_gate_without_a_vlm_is_for_risk_model(model: SafeVLM, tmp_path: Path) -> None:
    tower = msgspec.structs.replace(model.config.tower, kind="transformers")
    model.safety.config = msgspec.structs.replace(model.config, tower=tower)
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="load it with RiskModel"):
        SafeVLM.from_pretrained(tmp_path)


def test_a_checkpoint_is_replaced_as_one(model: SafeVLM, calibration: CheckpointCalibration, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def fill(folder: Path) -> None:
        model.save_pretrained(folder, calibration=calibration, training={"seed": 1}, card="# mine\n")

    for _ in range(2):
        publish_folder(out, fill, replaceable=is_checkpoint, error=TrainingError)
    assert (load_config(out).llm_tokens_trained, is_checkpoint(out)) == (True, True)
    digests = [checkpoint_digest(out)]
    model.add_lora(r=2)
    publish_folder(out, fill, replaceable=is_checkpoint, error=TrainingError)
    digests.append(checkpoint_digest(out))
    SafeVLM.from_pretrained(out).save_pretrained(tmp_path / "again")
    assert checkpoint_digest(tmp_path / "again") == digests[-1]
    weights = out / "lora" / "adapter_model.safetensors"
    state = safetensors.torch.load(weights.read_bytes())
    weights.write_bytes(safetensors.torch.save({name: value + 1 for name, value in state.items()}))
    digests.append(checkpoint_digest(out))
    assert len(set(digests)) == 3
    loaded = SafeVLM.from_pretrained(out)
    assert loaded.metadata == Metadata(calibration=calibration, training={"seed": 1}, card="# mine\n")
    loaded.lora = None
    loaded.save_pretrained(tmp_path / "again")
    assert not (tmp_path / "again" / "lora").exists()
    for place in ("processor/photo.png", "lora/notes/x.doc", "notes/a.json"):
        (out / place).parent.mkdir(exist_ok=True, parents=True)
        (out / place).write_text("mine")
        assert not is_checkpoint(out)
        (out / place).unlink()
    (out / "notes").rmdir()
    (out / "processor" / "link.json").symlink_to(out / "config.json")
    assert not is_checkpoint(out)
