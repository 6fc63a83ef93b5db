"""What a training run says at its end follows from the images that set the thresholds."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from safevlm_sdk.calibration.bounds import upper_bound
from safevlm_training.checkpoint import CheckpointCalibration
from safevlm_training.closing import closing_lines
from safevlm_training.metrics import Judged, log_softmax
from safevlm_training.recipe import FlagBound
from safevlm_training.thresholds import calibrate


def judged(groups: int, seed: int = 0) -> Judged:
    """Two safe images in each group, and a risky one in every second; scores overlap a little."""
    rng = np.random.default_rng(seed)
    types = np.array([1, 1] * groups + [0] * (groups // 2))
    return Judged(
        labels=("spam", "safe"),
        type_logits=rng.normal(size=(len(types), 2)) + 2.0 * np.eye(2)[types],
        level_logprobs=log_softmax(rng.normal(size=(len(types), 4))),
        types=types,
        levels=np.where(types == 1, 0, 2),
        groups=[*(f"safe-{number // 2}" for number in range(2 * groups)), *(f"{n}" for n in range(groups // 2))],
        sources=["photos"] * len(types),
    )


def found(images: Judged, *bounds: FlagBound) -> CheckpointCalibration:
    return calibrate(images, images, bounds)


def test_counts_are_of_each_class_and_of_its_groups() -> None:
    images, bound = judged(20), FlagBound()
    first, *_, last = closing_lines(images, found(images, bound), (bound,))
    assert first.startswith("calibration split: 10 images of spam in 10 independent groups, 40 images of safe in 20 ")
    assert last.startswith("read README.md")


@pytest.mark.parametrize(
    ("groups", "at_most", "said"),
    [
        (
            20,
            0.01,
            ": so few groups cannot show 1 %, whatever the model; that takes 299 groups of safe images without",
        ),
        (20, 0.0, ": no number of images shows so small a share"),
        (20, 1e-12, ": no number of images shows so small a share"),
        (400, 0.05, ": what was asked is kept on these images, and not shown; `safevlm calibrate` shows it"),
    ],
)
def test_a_bound_that_is_not_shown_is_said_to_be_so(groups: int, at_most: float, said: str) -> None:
    images, bound = judged(groups), FlagBound(flag_at_most=at_most)
    calibrated = found(images, bound)
    (line,) = [line for line in closing_lines(images, calibrated, (bound,)) if line.startswith("asked")]
    flagged = round(groups * at_most)
    assert f"flag at most {100 * at_most:.4g} % of the safe groups; the thresholds flag {flagged} of {groups}" in line
    assert f"shows at most {100 * upper_bound(flagged, groups):.4g} % (at 95 % confidence){said}" in line
    assert f"{flagged} of {groups} are flagged" in calibrated.calibration.note


def test_a_bound_that_is_shown_and_each_of_several() -> None:
    images = judged(20)
    bounds = (FlagBound(flag_at_most=0.9, sources=("photos",)), FlagBound(flag_at_most=0.0))
    lines = [line for line in closing_lines(images, found(images, *bounds), bounds) if line.startswith("asked")]
    assert len(lines) == 2
    assert "safe groups from photos; the thresholds flag 0 of 20" in lines[0]
    assert lines[0].endswith("(at 95 % confidence)")


@pytest.mark.parametrize(("temperature", "said"), [(10.0, "the highest"), (0.1, "the lowest"), (1.3, None)])
def test_a_temperature_at_a_limit_is_said(temperature: float, said: str | None) -> None:
    images, bound = judged(20), FlagBound()
    calibrated = found(images, bound)
    moved = msgspec.structs.replace(calibrated.calibration, temperature=temperature)
    lines = closing_lines(images, msgspec.structs.replace(calibrated, calibration=moved), (bound,))
    told = [line for line in lines if line.startswith("temperature")]
    assert len(told) == (said is not None)
    assert all(f"temperature {temperature:g} is {said} that is tried" in line for line in told)
