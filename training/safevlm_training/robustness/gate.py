"""A checkpoint as it decides: real preprocessing, real model, shipped thresholds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from safevlm_sdk.decision import Rule, decide
from safevlm_sdk.errors import CheckpointError, OutputNotFinite
from safevlm_sdk.policy import Action, LevelActions, Policy
from safevlm_sdk.preprocess import preprocess
from safevlm_sdk.raster import capped
from safevlm_training.checkpoint import checkpoint_digest, load_calibration
from safevlm_training.risk_model import RiskModel
from safevlm_training.robustness.effects import Pixels

# A threshold of 1 is reached where a float64 probability rounds to 1; its log-odds would be infinite.
LARGEST_THRESHOLD = 1 - 2.0**-53


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a gate says of one image.

    Attributes:
        score: 1 - P(safe), calibrated.
        flagged: Some threshold is reached: the gate's action would not be ALLOW.
    """

    score: float
    flagged: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gate:
    """A calibrated checkpoint in eval mode, whose weights take no gradients.

    Attributes:
        name: Of its folder.
        digest: `sha256:…` of what decides.
        model: Tower and safety modules.
        rule: Temperature and thresholds.
    """

    name: str
    digest: str
    model: RiskModel
    rule: Rule

    def judge(self, pixels: Pixels) -> Judgement:
        """Judges a raster, uint8 [H, W, 3], as the runtime would with a policy that wants every covered risk.

        Raises:
            OutputNotFinite: The model returned NaN or infinity.
        """
        config = self.model.config
        tensor = preprocess(capped(pixels, config.raster_max_side), config.preprocessing)
        with torch.inference_mode():
            output, _ = self.model(torch.from_numpy(tensor)[None])
        types, levels = output.type_logits[0].double().numpy(), output.level_logprobs[0].double().numpy()
        decision = decide(types, levels, self.rule, _wants_all(self.rule))
        if decision.score is None:
            raise OutputNotFinite(f"{self.name}: {decision.reason}; train the gate again")
        return Judgement(score=decision.score, flagged=decision.action is not Action.ALLOW)

    def margin(self, pixel_values: Tensor) -> Tensor:
        """[N] for normalised pixels [N, 3, H, W]: see `flag_margin`; gradients flow to the pixels."""
        features: Tensor = self.model.tower(pixel_values)
        if features.requires_grad:
            features.register_hook(_channel_by_channel)  # type: ignore[no-untyped-call]
        return flag_margin(self.model.safety(features).type_logits, self.rule)


def load_gate(path: str | Path) -> Gate:
    """Reads a calibrated checkpoint.

    Raises:
        CheckpointError: It is damaged, or has no thresholds.
    """
    calibration = load_calibration(path)
    if calibration is None:
        raise CheckpointError(f"{path}: is not calibrated, so it decides nothing; train it with calibration images")
    model = RiskModel.from_pretrained(path).requires_grad_(False)
    rule = Rule(
        labels=model.config.labels,
        activation="softmax",
        temperature=calibration.calibration.temperature,
        thresholds=calibration.thresholds.categories,
        any_threshold=calibration.thresholds.any,
    )
    return Gate(name=Path(path).resolve().name, digest=checkpoint_digest(path), model=model, rule=rule)


def flag_margin(type_logits: Tensor, rule: Rule) -> Tensor:
    """By how much log-odds the threshold that is nearest to being reached is passed; an image is flagged from 0 on.

    Args:
        type_logits: [N, C + 1], `safe` last.
        rule: Softmax, with its temperature and thresholds.

    Returns:
        float64 [N]; unlike a probability it does not saturate, so that its gradient does not vanish.
    """
    logits = type_logits.double() / rule.temperature
    safe = logits[:, -1]
    margins = [torch.logsumexp(logits[:, :-1], dim=1) - safe - _log_odds(rule.any_threshold)]
    for index, risk in enumerate(rule.covered):
        others = torch.cat([logits[:, :index], logits[:, index + 1 :]], dim=1)
        margins.append(logits[:, index] - torch.logsumexp(others, dim=1) - _log_odds(rule.thresholds[risk]))
    return torch.stack(margins).amax(dim=0)


def _channel_by_channel(gradient: Tensor) -> Tensor:
    """The gradient [N, T, D], laid out so that a convolutional tower sees contiguous [N, D, H, W].

    On a CPU, torch 2.13 computes wrong gradients at a `BatchNorm2d` in eval mode when a batch of one image and its
    gradient lie differently in memory, the one channel by channel and the other channels last.
    """
    return gradient.transpose(1, 2).contiguous().transpose(1, 2)


def _log_odds(threshold: float) -> float:
    value = min(threshold, LARGEST_THRESHOLD)
    return math.log(value / (1 - value))


def _wants_all(rule: Rule) -> Policy:
    block = LevelActions(low=Action.BLOCK, medium=Action.BLOCK, high=Action.BLOCK)
    return Policy(schema=1, name="every covered risk", uncovered="allow", actions=dict.fromkeys(rule.covered, block))
