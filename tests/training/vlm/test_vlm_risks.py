"""What the gate decides of the images of a conversation, and what the language model is told."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from safevlm_sdk.errors import (
    DataError,
    OptionError,
    OutputNotFinite,
)
from safevlm_sdk.manifest import Calibration, Thresholds
from safevlm_sdk.policy import parse_policy
from safevlm_sdk.taxonomy import RiskLevel
from safevlm_training.checkpoint import CheckpointCalibration
from safevlm_training.modules import SafetyOutput
from safevlm_training.vlm.processor import SafeVLMProcessor
from safevlm_training.vlm.proof_model import proof_model
from safevlm_training.vlm.risks import Decider, with_notes, worst
from safevlm_training.vlm.safe_vlm import SafeVLM
from safevlm_training.vlm.saving import Metadata
from safevlm_training.vlm.tiny import tiny_vlm

GREEDY: dict[str, Any] = {"max_new_tokens": 3, "do_sample": False}
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
ASK = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}]

WORDS = """schema = 1
name = "kiosk"
uncovered = "allow"
[actions.privacy]
low = "caution"
medium = "caution"
high = "caution"
[prompts]
low = "Mind the {subject}. {hint}"
medium = "Mind the {subject}. {hint}"
high = "Mind the {subject}. {hint}"
[hints]
privacy = "Name nobody."
"""


@pytest.fixture
def model() -> SafeVLM:
    return proof_model(*tiny_vlm("llava"), "llava")


@pytest.fixture
def calibration() -> CheckpointCalibration:
    return CheckpointCalibration(
        calibration=Calibration(method="temperature", temperature=2.0, risky_groups=5, safe_groups=9, note="Here."),
        thresholds=Thresholds(categories={"privacy": 0.3, "illegal_risk": 0.3}, any=0.9),
    )


def saying(text: str, **other: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}], **other}]


def output_of(types: list[list[float]], levels: list[list[float]]) -> SafetyOutput:
    found = {"type_logits": torch.tensor(types), "level_logprobs": torch.tensor(levels)}
    return SafetyOutput(**found, attention=torch.ones(1), safety_embeddings=None)


LOW, HIGH = [-9.0, -0.1, -3.0, -4.0], [-0.1, -5.0, -4.0, -3.0]


def test_without_thresholds_the_most_likely_decides(model: SafeVLM) -> None:
    output = output_of([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0], [1.0, 1.5, 1.4]], [LOW, HIGH, HIGH])
    found = model.decide(output)
    assert [one.category for one in found] == ["privacy", "safe", "illegal_risk"]
    assert [one.level for one in found] == [RiskLevel.LOW, RiskLevel.NONE, RiskLevel.HIGH]
    assert worst(found) is found[2]
    assert worst([]) is None


def test_thresholds_decide_where_there_are_some(model: SafeVLM, calibration: CheckpointCalibration) -> None:
    model.metadata = Metadata(calibration=calibration)
    found = model.decide(output_of([[0.0, 0.0, 1.0], [-9.0, -9.0, 1.0]], [LOW, HIGH]))
    assert [one.category for one in found] == ["safe", "safe"]
    found = model.decide(output_of([[0.5, -3.0, 1.0]], [HIGH]))  # softmax at temperature 2: .40, .07, .52
    assert [(one.category, one.level) for one in found] == [("privacy", RiskLevel.HIGH)]


@pytest.mark.parametrize("calibrated", [True, False])
def test_a_category_can_be_switched_off(model: SafeVLM, calibration: CheckpointCalibration, calibrated: bool) -> None:
    policy = parse_policy(
        'schema = 1\nname = "x"\nuncovered = "allow"\n[actions.illegal_risk]\nlow = "allow"\nmedium = "block"\n'
        'high = "block"\n'
    )
    decide = Decider(config=model.config, calibration=calibration if calibrated else None, policy=policy)
    found = decide(output_of([[9.0, 0.0, 1.0], [0.0, 9.0, 1.0]], [HIGH, HIGH]))
    assert [one.category for one in found] == ["safe", "illegal_risk"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_no_verdict_is_no_verdict(model: SafeVLM, bad: float) -> None:
    with pytest.raises(OutputNotFinite, match="image 1"):
        model.decide(output_of([[0.0, 0.0, 1.0], [0.0, bad, 1.0]], [LOW, LOW]))


def test_the_note_stands_behind_the_last_question_after_the_worst_image(model: SafeVLM) -> None:
    decisions = model.decide(output_of([[0.0, 0.0, 9.0], [9.0, 0.0, 0.0], [0.0, 9.0, 0.0]], [LOW, LOW, HIGH]))
    talk = [*saying("First?"), {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Second?"}]
    before = copy.deepcopy(talk)
    found = with_notes([talk, ASK, ASK], [decisions, decisions[:1], []], model.config.taxonomy)
    assert talk == before
    assert found[0][:2] == talk[:2]
    assert found[0][2]["content"].startswith("Second?\n\nSafety note: the image shows a serious risk (illegal")
    assert found[1:] == [ASK, ASK]
    (noted,) = with_notes([saying("What?")], [decisions], model.config.taxonomy)[0]
    assert noted["content"][0] == {"type": "image"}
    assert noted["content"][1]["text"].startswith("What?\n\nSafety note")
    (silent,) = with_notes([[{"role": "user", "content": [{"type": "image"}]}]], [decisions], model.config.taxonomy)[
        0
    ]
    assert silent["content"][1]["text"].startswith("Safety note")
    with pytest.raises(DataError, match="no message with role `user`"):
        with_notes([[{"role": "system", "content": "x"}]], [decisions], model.config.taxonomy)


def test_a_policy_puts_its_own_words_into_the_note(model: SafeVLM) -> None:
    decisions = model.decide(output_of([[9.0, 0.0, 0.0]], [LOW]))
    policy = parse_policy(WORDS)
    ((asked,),) = with_notes([ASK], [decisions], model.config.taxonomy, policy)
    assert asked["content"][-1]["text"].endswith("\n\nMind the personal data. Name nobody.")


def test_tiered_answers_see_the_note(model: SafeVLM, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts: list[str] = []
    call = SafeVLMProcessor.__call__

    def noting(self: SafeVLMProcessor, **kwargs: Any) -> Any:
        prompts.extend(kwargs["text"])
        return call(self, **kwargs)

    monkeypatch.setattr(SafeVLMProcessor, "__call__", noting)
    for bias, said in ((torch.tensor([9.0, 0.0, 0.0]), True), (torch.tensor([0.0, 0.0, 9.0]), False)):
        with torch.no_grad():
            model.safety.head.readout.types.bias.copy_(bias)
        model.generate([ASK], [[PICTURE]], prompt="tiered", **GREEDY)
        assert ("personal data" in prompts[-1]) is said
        model.generate([ASK], [[PICTURE]], prompt="tiered", policy=parse_policy(WORDS), **GREEDY)
        assert ("Mind the personal data. Name nobody." in prompts[-1]) is said
    with pytest.raises(OptionError, match="prompt is 'polite'"):
        model.generate([ASK], [[PICTURE]], prompt="polite")  # type: ignore[arg-type]
