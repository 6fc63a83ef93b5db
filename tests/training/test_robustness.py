"""Robustness of a tiny trained gate: real weights, real thresholds, real attacks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from safevlm_sdk.errors import CheckpointError, DataError, OptionError
from safevlm_training.data import Example
from safevlm_training.progress import Progress
from safevlm_training.risk_model import RiskModel
from safevlm_training.robustness import (
    CORRUPTIONS,
    AttackPlan,
    RobustnessPlan,
    RobustnessResult,
    console_lines,
    html_section,
    measure_robustness,
)
from safevlm_training.robustness.gate import load_gate
from safevlm_training.robustness.patch import grey_patch, with_patch
from safevlm_training.robustness.pictures import Picture
from safevlm_training.robustness.results import GREY, PATCH, PGD, SIGNS, AttackRow
from safevlm_training.robustness.under_attack import measure_attacks

Paint = Callable[..., np.ndarray]
FEW = RobustnessPlan(
    corruptions=CORRUPTIONS[:1],
    images=4,
    attack=AttackPlan(images=3, epsilons=(1, 4), steps=5, max_side=64, patch_images=2, patch_steps=6),
)


@pytest.fixture(scope="module")
def examples(picture: Paint, tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    folder = tmp_path_factory.mktemp("pictures")
    found = []
    for number in range(9):
        for category, risky in (("privacy", True), ("safe", False)):
            path = folder / f"{category}-{number}.png"
            Image.fromarray(picture(number, risky=risky)).save(path)
            found.append(
                Example(
                    path=path,
                    category=category,
                    level=2 if risky else 0,
                    group=f"{category}-{number // 2}",
                    source="drawn",
                    split=None,
                    where=path.name,
                )
            )
    return found


@pytest.fixture(scope="module")
def result(checkpoints: tuple[Path, Path], examples: list[Example]) -> RobustnessResult:
    return measure_robustness(checkpoints[0], examples, plan=FEW, transfer_to=checkpoints)


def row(rows: tuple[AttackRow, ...], attack: str, goal: str, epsilon: int | None) -> AttackRow:
    (found,) = (one for one in rows if (one.attack, one.goal, one.epsilon) == (attack, goal, epsilon))
    return found


def test_every_row_counts_the_images_it_is_of(result: RobustnessResult) -> None:
    assert result.corruptions[0].corruption == "unchanged"
    assert len(result.corruptions) == 1 + len(CORRUPTIONS[0].steps)
    for one in result.corruptions:
        assert (one.risky.images, one.safe.images) == (4, 4)
    assert (result.risky.images, result.safe.images) == (4, 4)
    assert 2 <= result.risky.groups <= 4
    assert result.patch_images == 1
    assert {(one.attack, one.goal, one.epsilon) for one in result.attacks} == {
        *((attack, goal, e) for attack in (PGD, SIGNS) for goal in ("allow", "flag") for e in (1, 4)),
        (PATCH, "allow", None),
        (GREY, "allow", None),
    }
    for one in result.attacks:
        assert one.success.images == 3
        assert one.success.low <= one.success.rate <= one.success.high


def test_the_attack_is_reported_as_it_is(result: RobustnessResult) -> None:
    strong, control = (row(result.attacks, attack, "allow", 4) for attack in (PGD, SIGNS))
    assert strong.success.count > control.success.count
    assert strong.score_after < strong.score_before
    assert strong.score_before == control.score_before
    flag = row(result.attacks, PGD, "flag", 4)
    assert flag.score_after > flag.score_before


def test_transfer_to_itself_is_the_attack_itself(result: RobustnessResult) -> None:
    itself, other = result.transfers
    assert itself.rows == result.attacks
    assert itself.digest == result.digest != other.digest
    assert [(r.attack, r.goal, r.epsilon) for r in other.rows] == [(r.attack, r.goal, r.epsilon) for r in itself.rows]
    assert other.rows != itself.rows


def test_each_gate_counts_what_it_judged_right_and_judges_for_itself(
    checkpoints: tuple[Path, Path], examples: list[Example], picture: Paint
) -> None:
    gates = [load_gate(path) for path in checkpoints]
    risky = [Picture(example=examples[0], pixels=picture(number, risky=True)) for number in range(3)]
    wrong = Picture(example=examples[0], pixels=picture(0, risky=False))
    plan = AttackPlan(epsilons=(4,), steps=1, patch_images=1, patch_steps=1)
    found = measure_attacks(gates, plan, [wrong, *risky], seed=0, progress=Progress(False))
    assert found.patch_images == 1
    for gate, rows in zip(gates, found.rows, strict=True):
        after = [gate.judge(with_patch(one.pixels, grey_patch(), 0.1)) for one in risky[:2]]
        grey = row(rows, GREY, "allow", None)
        assert grey.success.images == 2
        assert grey.success.count == sum(not one.flagged for one in after)
        assert grey.score_after == pytest.approx(np.mean([one.score for one in after]))


def test_measuring_again_gives_the_same(
    checkpoints: tuple[Path, Path], examples: list[Example], result: RobustnessResult
) -> None:
    again = measure_robustness(checkpoints[0], list(reversed(examples)), plan=FEW, transfer_to=checkpoints)
    assert again == result
    other = measure_robustness(checkpoints[0], examples, plan=replace(FEW, seed=1, attack=None))
    assert other.corruptions != result.corruptions


def test_a_result_becomes_json(result: RobustnessResult) -> None:
    values = json.loads(json.dumps(result.as_json()))
    assert values["attack"]["epsilons"] == [1, 4]
    assert values["corruptions"][0]["risky"]["images"] == 4
    assert msgspec.convert(values, RobustnessResult) == result


def test_the_section_shows_every_row_and_claims_nothing(result: RobustnessResult) -> None:
    page, lines = html_section(result), console_lines(result)
    rows = len(result.corruptions) + 3 * len(result.attacks)
    assert page.count("<tr><td>") == rows
    assert page.count("<table>") == page.count("</table>") == 4
    for text in (page, "\n".join(lines)):
        assert "No robustness against an attacker who has the weights is claimed." in text
        assert result.digest in text
        assert "quality 30" in text
        assert "judged by" in text
    strong = row(result.attacks, PGD, "flag", 4).success
    assert f"{strong.count} of {strong.images}, {strong.rate:.3f} [{strong.low:.3f}, {strong.high:.3f}]" in page
    assert all("\n" not in line for line in lines)


def test_what_cannot_be_decoded_is_listed_and_escaped(
    checkpoints: tuple[Path, Path], examples: list[Example], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    wrong = replace(examples[0], path=bad, where="<b>row 7</b>")
    found = measure_robustness(checkpoints[0], [wrong, *examples], plan=replace(FEW, images=99, attack=None))
    assert [one.where for one in found.skipped] == ["<b>row 7</b>"]
    assert found.risky.images == 9
    assert found.attacks == ()
    assert "&lt;b&gt;row 7&lt;/b&gt;: image_format" in html_section(found)
    assert "<b>row 7" not in html_section(found)
    assert any("<b>row 7</b>" in line for line in console_lines(found))
    assert "Nothing was attacked." in html_section(found)


def test_a_gate_that_is_never_right_has_no_rate(checkpoints: tuple[Path, Path], examples: list[Example]) -> None:
    swapped = [replace(e, category="safe" if e.category == "privacy" else "privacy") for e in examples]
    found = measure_robustness(checkpoints[0], swapped, plan=FEW)
    assert found.patch_images == 0
    assert {one.success.images for one in found.attacks} == {0}
    assert {one.success.rate for one in found.attacks} == {None}
    assert "no image" in html_section(found)
    assert "Too few images were judged right for a patch." in "\n".join(console_lines(found))


def test_an_uncalibrated_checkpoint_is_refused(
    checkpoints: tuple[Path, Path], examples: list[Example], tmp_path: Path
) -> None:
    RiskModel.from_pretrained(checkpoints[0]).save_pretrained(tmp_path / "raw")
    with pytest.raises(CheckpointError, match="is not calibrated"):
        measure_robustness(tmp_path / "raw", examples, plan=FEW)


def test_other_risks_are_refused(
    checkpoints: tuple[Path, Path], make_gate: Callable[..., Path], examples: list[Example], tmp_path: Path
) -> None:
    other = make_gate(tmp_path / "other", 0, coverage={"privacy": "Documents."})
    with pytest.raises(CheckpointError, match="cover the same risks"):
        measure_robustness(checkpoints[0], examples, plan=FEW, transfer_to=(other,))
    with pytest.raises(DataError, match="'fairness' is none of privacy, illegal_risk, safe"):
        measure_robustness(checkpoints[0], [replace(examples[0], category="fairness"), *examples], plan=FEW)


@pytest.mark.parametrize("category", ["privacy", "safe"])
def test_both_kinds_are_needed(checkpoints: tuple[Path, Path], examples: list[Example], category: str) -> None:
    missing = {"privacy": "no safe image", "safe": "no risky image"}[category]
    with pytest.raises(DataError, match=missing):
        measure_robustness(checkpoints[0], [e for e in examples if e.category == category], plan=FEW)


@pytest.mark.parametrize("change", [{"images": 0}, {"epsilons": (0,)}, {"epsilons": (256,)}, {"patch_share": 0.9}])
def test_senseless_plans_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        AttackPlan(**change)
    with pytest.raises(OptionError):
        RobustnessPlan(images=0)
