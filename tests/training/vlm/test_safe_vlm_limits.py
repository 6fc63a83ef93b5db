"""SafeVLM on LLaVA: tokens on and off, LoRA, features, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from safevlm_sdk.errors import (
    CheckpointError,
    DataError,
    FeaturesMismatch,
    OptionError,
)
from safevlm_training import SafeVLM as PublicSafeVLM
from safevlm_training.vlm.proof_model import proof_model
from safevlm_training.vlm.safe_vlm import SafeVLM
from safevlm_training.vlm.tiny import tiny_vlm

GREEDY: dict[str, Any] = {"max_new_tokens": 3, "do_sample": False}
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
ASK = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}]


def batch_of(model: SafeVLM, *, safety_tokens: bool = True) -> dict[str, Tensor]:
    options = {"add_generation_prompt": True, "safety_tokens": safety_tokens}
    return dict(model.processor.conversations([ASK], [[PICTURE]], **options))


def test_it_is_public() -> None:
    assert PublicSafeVLM is SafeVLM


def test_tokens_that_were_never_trained_are_off(llava: Path) -> None:
    model = proof_model(*tiny_vlm("llava"), str(llava), llm_tokens_trained=False)
    bare = batch_of(model, safety_tokens=False)
    expected = model.vlm.generate(**bare, **GREEDY)
    assert model.generate_ids(bare, **GREEDY).equal(expected)
    answers = model.processor.decode(expected[:, bare["input_ids"].shape[1] :])
    assert model.generate([ASK], [[PICTURE]], **GREEDY) == answers
    with pytest.raises(DataError, match="safety_tokens=False"):
        model(**batch_of(model))
    model(**batch_of(model), safety_tokens=True)  # asked for
    model.train()(**batch_of(model))  # while training
    assert not model.vlm.get_encoder(modality="image").training
    assert model.vlm.get_decoder().training


def test_a_checkpoint_without_a_language_model_has_no_tokens(llava: Path) -> None:
    model = proof_model(*tiny_vlm("llava"), str(llava), llm_width=None, llm_tokens_trained=False)
    model.train()(**batch_of(model, safety_tokens=False))
    with pytest.raises(OptionError, match="llm_width is null"):
        model(**batch_of(model), safety_tokens=True)
    with pytest.raises(ValueError, match="llm_tokens_trained is true, but llm_width is null"):
        proof_model(*tiny_vlm("llava"), str(llava), llm_width=None)


def test_a_pass_without_images(model: SafeVLM) -> None:
    talk = [{"role": "user", "content": "Hello."}]
    batch = dict(model.processor.conversations([talk], [[]], add_generation_prompt=True))
    assert model.judge(batch) is None
    output = model(**batch, labels=batch["input_ids"])
    assert output.safety is None
    assert output.lm_loss is not None
    assert len(model.generate([talk], [[]], prompt="tiered", **GREEDY)) == 1


def test_split_prompts_are_refused(model: SafeVLM) -> None:
    batch = batch_of(model)
    first = int((batch["input_ids"][0] == model.processor.safety_token_id).nonzero()[0])
    with pytest.raises(DataError, match="prefill_chunk_size"):
        model.generate_ids(batch, prefill_chunk_size=first + 1, **GREEDY)
    assert not model.vlm.get_input_embeddings()._forward_hooks
    assert "_get_logits_processor" not in vars(model.vlm)


def test_half_precision(model: SafeVLM) -> None:
    model.vlm.to(torch.bfloat16)
    batch = batch_of(model)
    output = model(**batch)
    assert output.logits.dtype == torch.bfloat16
    assert output.safety is not None
    assert output.safety.type_logits.dtype == torch.float32
    assert model.generate_ids(batch, **GREEDY).shape[0] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tower_digest": "sha256:" + "0" * 64}, "sha256:000"),
        ({"tap": "hidden:-1"}, "hidden:-1"),
        ({"array": np.zeros((16, 7), np.float32)}, "7"),
        ({"array": np.zeros((15, 24), np.float32)}, "15 rows for a grid of"),
    ],
)
def test_features_of_something_else_are_refused(model: SafeVLM, change: dict[str, Any], message: str) -> None:
    (one,) = model.vision_features(batch_of(model), [PICTURE])
    names = ("array", "grid", "tower_digest", "tap", "raster_sha256")
    wrong = type(one)(**{name: getattr(one, name) for name in names} | change)
    with pytest.raises(FeaturesMismatch, match=message):
        model.judge_features([wrong])
    with pytest.raises(FeaturesMismatch, match="no features"):
        model.judge_features([])
    with pytest.raises(DataError, match="2 images were given for a batch of 1"):
        model.vision_features(batch_of(model), [PICTURE, PICTURE])


def test_a_convolutional_projector_keeps_to_its_grid(llava: Path) -> None:
    fitting = proof_model(*tiny_vlm("llava"), str(llava), projector="c_abstractor", grid=(4, 4))
    assert fitting.judge(batch_of(fitting)) is not None
    other = proof_model(*tiny_vlm("llava"), str(llava), projector="c_abstractor", grid=(2, 8))
    with pytest.raises(FeaturesMismatch, match=r"\[\(4, 4\)\], but the c_abstractor projector works on \(2, 8\)"):
        other.judge(batch_of(other))


def test_lora_is_on_the_language_model_alone(model: SafeVLM) -> None:
    model.add_lora(r=2)
    found = {name for name, _ in model.vlm.named_parameters() if "lora_" in name}
    assert all(name.startswith("model.language_model.layers.") for name in found)
    layers = {name.partition(".lora_")[0].rpartition(".")[2] for name in found}
    assert layers == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    with pytest.raises(CheckpointError, match="has LoRA adapters already"):
        model.add_lora()


@pytest.mark.parametrize(
    "options", [{"targets": ["q_proj", "conv"]}, {"targets": []}, {"r": 0}, {"alpha": 0}, {"dropout": 1.0}]
)
def test_lora_that_cannot_be_is_refused(model: SafeVLM, options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="LoRA: "):
        model.add_lora(**{"r": 2, **options})
    assert model.lora is None


def test_some_layers_only(model: SafeVLM) -> None:
    model.add_lora(r=2, targets=["q_proj"])
    found = [name for name, _ in model.vlm.named_parameters() if "lora_A" in name]
    assert found == [
        f"model.language_model.layers.{layer}.self_attn.q_proj.lora_A.default.weight" for layer in (0, 1)
    ]
