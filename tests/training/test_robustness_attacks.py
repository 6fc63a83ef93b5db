"""Attacks on a tiny trained gate: their gradients, their limits and what they do to its scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from safevlm_sdk.decision import Rule, decide
from safevlm_sdk.errors import OutputNotFinite
from safevlm_sdk.policy import Action, LevelActions, Policy
from safevlm_training.robustness.attacks import pgd, random_signs, to_values
from safevlm_training.robustness.gate import Gate, flag_margin, load_gate
from safevlm_training.robustness.patch import grey_patch, patch_side, train_patch, with_patch
from safevlm_training.robustness.resampling import DifferentiablePreprocess

Paint = Callable[..., np.ndarray]


@pytest.fixture
def gate(checkpoints: tuple[Path, Path]) -> Gate:
    return load_gate(checkpoints[0])


def test_the_margin_is_flagged_from_zero_on() -> None:
    rng = np.random.default_rng(0)
    thresholds = {"privacy": 0.4, "fairness": 1.0, "misleading": 0.3}
    rule = Rule(
        labels=(*thresholds, "safe"),
        activation="softmax",
        temperature=1.7,
        thresholds=thresholds,
        any_threshold=0.55,
    )
    block = LevelActions(low=Action.BLOCK, medium=Action.BLOCK, high=Action.BLOCK)
    policy = Policy(schema=1, name="all", uncovered="allow", actions=dict.fromkeys(thresholds, block))
    logits = rng.normal(0, 2, (400, 4))
    margins = flag_margin(torch.from_numpy(logits), rule).numpy()
    flagged = [decide(row, np.zeros(4), rule, policy).action is Action.BLOCK for row in logits]
    assert 50 < sum(flagged) < 350
    assert [bool(margin >= 0) for margin in margins] == flagged


def test_a_certain_image_still_has_a_gradient() -> None:
    rule = Rule(
        labels=("privacy", "safe"),
        activation="softmax",
        temperature=1,
        thresholds={"privacy": 0.5},
        any_threshold=0.5,
    )
    logits = torch.tensor([[90.0, -90.0]], requires_grad=True)
    margin = flag_margin(logits, rule)
    (gradient,) = torch.autograd.grad(margin.sum(), logits)
    assert margin.item() == pytest.approx(180)
    assert gradient.tolist() == [[pytest.approx(1), pytest.approx(-1)]]


def test_gradients_of_one_image_are_right(gate: Gate, picture: Paint) -> None:
    gate.model.double()
    path = DifferentiablePreprocess.of((72, 96), gate.model.config.preprocessing)
    pixels = path(to_values(picture(0, risky=True))).double().requires_grad_()
    (gradient,) = torch.autograd.grad(gate.margin(pixels).sum(), pixels)
    direction = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        ahead, behind = (gate.margin(pixels + step * direction).item() for step in (1e-6, -1e-6))
    assert (gradient * direction).sum().item() == pytest.approx((ahead - behind) / 2e-6, rel=1e-3)


def test_the_margin_of_the_differentiable_path_is_the_gates(gate: Gate, picture: Paint) -> None:
    for number in range(4):
        pixels = picture(number, risky=number % 2 == 0)
        path = DifferentiablePreprocess.of((72, 96), gate.model.config.preprocessing)
        with torch.no_grad():
            assert (gate.margin(path(to_values(pixels))).item() >= 0) == gate.judge(pixels).flagged


@pytest.mark.parametrize("epsilon", [1, 4])
@pytest.mark.parametrize("risky", [True, False])
def test_pgd_stays_close_and_beats_noise_of_the_same_size(
    gate: Gate, picture: Paint, epsilon: int, risky: bool
) -> None:
    for number in range(3):
        pixels = picture(number, risky=risky)
        before = gate.judge(pixels)
        assert before.flagged == risky
        attacked = pgd(gate, pixels, epsilon=epsilon, steps=6, flag=not risky, seed=number)
        control = random_signs(pixels, epsilon=epsilon, seed=number)
        for changed in (attacked, control):
            assert changed.dtype == np.uint8
            assert np.abs(changed.astype(int) - pixels).max() == epsilon
        gain, drift = (abs(gate.judge(changed).score - before.score) for changed in (attacked, control))
        assert (gate.judge(attacked).score < before.score) == risky
        assert gain > 2 * drift


def test_a_broken_gate_is_an_error_and_no_flag(gate: Gate, picture: Paint) -> None:
    with torch.no_grad():
        gate.model.safety.head.query.fill_(math.nan)
    with pytest.raises(OutputNotFinite, match="NaN or infinity"):
        gate.judge(picture(0, risky=True))


def test_pgd_of_saturated_pixels_stays_in_range(gate: Gate) -> None:
    pixels = np.zeros((50, 40, 3), dtype=np.uint8)
    pixels[10:30, 10:30] = 255
    attacked = pgd(gate, pixels, epsilon=8, steps=3, flag=True, seed=0).astype(int)
    assert attacked[pixels == 255].min() >= 247
    assert attacked[pixels == 0].max() <= 8


def test_pgd_depends_on_its_seed_alone(gate: Gate, picture: Paint) -> None:
    pixels = picture(0, risky=True)
    first, again, other = (pgd(gate, pixels, epsilon=4, steps=2, flag=False, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_attacks_leave_the_weights_alone(gate: Gate, picture: Paint) -> None:
    before = {name: value.clone() for name, value in gate.model.state_dict().items()}
    pgd(gate, picture(0, risky=True), epsilon=4, steps=2, flag=False, seed=0)
    assert not gate.model.training
    assert not any(parameter.requires_grad for parameter in gate.model.parameters())
    assert all(value.equal(before[name]) for name, value in gate.model.state_dict().items())


@pytest.mark.parametrize("shape", [(72, 96), (200, 30), (1, 1)])
def test_the_patch_touches_only_its_square(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    patch = np.random.default_rng(1).integers(0, 256, grey_patch().shape, dtype=np.uint8)
    side = patch_side(shape, 0.1)
    shown = with_patch(pixels, patch, 0.1)
    outside = np.ones(shape, dtype=bool)
    outside[shape[0] - side :, shape[1] - side :] = False
    assert np.array_equal(shown[outside], pixels[outside])
    assert not np.array_equal(shown, pixels)
    assert side == min(*shape, max(1, round(math.sqrt(0.1 * shape[0] * shape[1]))))


def test_a_trained_patch_lowers_scores_it_was_not_trained_on(gate: Gate, picture: Paint) -> None:
    patch = train_patch(gate, [picture(number, risky=True) for number in (20, 21, 22)], share=0.2, steps=12, seed=0)
    for number in range(4):
        patched, covered = (
            gate.judge(with_patch(picture(number, risky=True), square, 0.2)).score for square in (patch, grey_patch())
        )
        assert patched < covered - 0.01
