"""Robustness of a tiny trained gate: real weights, real thresholds, real attacks."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from safevlm_sdk.decision import Rule, decide
from safevlm_sdk.errors import CheckpointError, DataError, OptionError, OutputNotFinite
from safevlm_sdk.manifest import Calibration, Thresholds
from safevlm_sdk.policy import Action, LevelActions, Policy
from safevlm_sdk.preprocess import preprocess
from safevlm_training.checkpoint import CheckpointCalibration
from safevlm_training.config import SafetyConfig
from safevlm_training.data import Example
from safevlm_training.modules import SafetyModules
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
from safevlm_training.robustness.attacks import pgd, random_signs, to_values
from safevlm_training.robustness.gate import Gate, flag_margin, load_gate
from safevlm_training.robustness.patch import grey_patch, patch_side, train_patch, with_patch
from safevlm_training.robustness.pictures import Picture
from safevlm_training.robustness.resampling import DifferentiablePreprocess
from safevlm_training.robustness.results import GREY, PATCH, PGD, SIGNS, AttackRow
from safevlm_training.robustness.under_attack import measure_attacks
from safevlm_training.towers.load import describe_tower

MakeConfig = Callable[..., SafetyConfig]
Pixels = NDArray[np.uint8]
FEW = RobustnessPlan(
    corruptions=CORRUPTIONS[:1],
    images=4,
    attack=AttackPlan(images=3, epsilons=(1, 4), steps=5, max_side=64, patch_images=2, patch_steps=6),
)


def picture(number: int, *, risky: bool) -> Pixels:
    """Noise with a red square, which is risky, or with a blue circle."""
    rng = np.random.default_rng([number, int(risky)])
    image = Image.fromarray(rng.integers(90, 170, (72, 96, 3), dtype=np.uint8))
    left, top = (int(value) for value in rng.integers(4, 36, 2))
    pen = ImageDraw.Draw(image)
    if risky:
        pen.rectangle((left, top, left + 30, top + 30), fill=(220, 40, 40))
    else:
        pen.ellipse((left, top, left + 30, top + 30), fill=(40, 40, 220))
    return np.asarray(image)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_gate(make_config: MakeConfig, folder: Path, seed: int, **changes: object) -> Path:
    """Trains a head on the published tower, and saves it with thresholds."""
    torch.manual_seed(seed)
    tower, described, preprocessing = describe_tower("efficientnet-lite0", "hidden:3", image_size=64)
    config = make_config(
        tower=described, grid=tower.grid, feature_width=tower.feature_width, preprocessing=preprocessing, **changes
    )
    model = RiskModel(tower, SafetyModules(config))
    pictures = [picture(number, risky=risky) for number in range(100, 112) for risky in (True, False)]
    truth = torch.tensor([0, len(config.labels) - 1] * 12)
    with torch.no_grad():
        features = tower(torch.from_numpy(np.stack([preprocess(pixels, preprocessing) for pixels in pictures])))
    optimizer = torch.optim.Adam(model.safety.parameters(), lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        logits = model.safety(features).type_logits
        torch.nn.functional.cross_entropy(logits, truth, label_smoothing=0.1).backward()
        optimizer.step()
    calibration = CheckpointCalibration(
        calibration=Calibration(method="temperature", temperature=1.5, risky_groups=5, safe_groups=9, note="Here."),
        thresholds=Thresholds(categories=dict.fromkeys(config.coverage, 0.5), any=0.6),
    )
    model.eval().save_pretrained(folder, calibration=calibration)
    return folder


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("robustness")


@pytest.fixture
def checkpoints(make_config: MakeConfig, kept: Path) -> tuple[Path, Path]:
    """The same gate from two seeds, trained once for all tests here."""
    paths = (kept / "first", kept / "second")
    for seed, path in enumerate(paths):
        if not path.exists():
            make_gate(make_config, path, seed)
    return paths


@pytest.fixture
def gate(checkpoints: tuple[Path, Path]) -> Gate:
    return load_gate(checkpoints[0])


@pytest.fixture(scope="module")
def examples(kept: Path) -> list[Example]:
    found = []
    for number in range(9):
        for category, risky in (("privacy", True), ("safe", False)):
            path = kept / f"{category}-{number}.png"
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
def measured() -> list[RobustnessResult]:
    return []


@pytest.fixture
def result(
    checkpoints: tuple[Path, Path], examples: list[Example], measured: list[RobustnessResult]
) -> RobustnessResult:
    """Measured once for all tests here."""
    if not measured:
        measured.append(measure_robustness(checkpoints[0], examples, plan=FEW, transfer_to=checkpoints))
    return measured[0]


def row(rows: tuple[AttackRow, ...], attack: str, goal: str, epsilon: int | None) -> AttackRow:
    (found,) = (one for one in rows if (one.attack, one.goal, one.epsilon) == (attack, goal, epsilon))
    return found


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


def test_gradients_of_one_image_are_right(gate: Gate) -> None:
    gate.model.double()
    path = DifferentiablePreprocess.of((72, 96), gate.model.config.preprocessing)
    pixels = path(to_values(picture(0, risky=True))).double().requires_grad_()
    (gradient,) = torch.autograd.grad(gate.margin(pixels).sum(), pixels)
    direction = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        ahead, behind = (gate.margin(pixels + step * direction).item() for step in (1e-6, -1e-6))
    assert (gradient * direction).sum().item() == pytest.approx((ahead - behind) / 2e-6, rel=1e-3)


def test_the_margin_of_the_differentiable_path_is_the_gates(gate: Gate) -> None:
    for number in range(4):
        pixels = picture(number, risky=number % 2 == 0)
        path = DifferentiablePreprocess.of((72, 96), gate.model.config.preprocessing)
        with torch.no_grad():
            assert (gate.margin(path(to_values(pixels))).item() >= 0) == gate.judge(pixels).flagged


@pytest.mark.parametrize("epsilon", [1, 4])
@pytest.mark.parametrize("risky", [True, False])
def test_pgd_stays_close_and_beats_noise_of_the_same_size(gate: Gate, epsilon: int, risky: bool) -> None:
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


def test_a_broken_gate_is_an_error_and_no_flag(gate: Gate) -> None:
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


def test_pgd_depends_on_its_seed_alone(gate: Gate) -> None:
    pixels = picture(0, risky=True)
    first, again, other = (pgd(gate, pixels, epsilon=4, steps=2, flag=False, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_attacks_leave_the_weights_alone(gate: Gate) -> None:
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


def test_a_trained_patch_lowers_scores_it_was_not_trained_on(gate: Gate) -> None:
    patch = train_patch(gate, [picture(number, risky=True) for number in (20, 21, 22)], share=0.2, steps=12, seed=0)
    for number in range(4):
        patched, covered = (
            gate.judge(with_patch(picture(number, risky=True), square, 0.2)).score for square in (patch, grey_patch())
        )
        assert patched < covered - 0.01


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
    checkpoints: tuple[Path, Path], examples: list[Example]
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
    checkpoints: tuple[Path, Path], make_config: MakeConfig, examples: list[Example], tmp_path: Path
) -> None:
    other = make_gate(make_config, tmp_path / "other", 0, coverage={"privacy": "Documents."})
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
