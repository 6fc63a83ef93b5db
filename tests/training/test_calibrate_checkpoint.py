"""`safevlm calibrate CHECKPOINT`, with the checkpoint that ships."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from safevlm_sdk.calibration.choose import Demand
from safevlm_sdk.calibration.page import Written
from safevlm_sdk.calibration.request import Request, Tiling
from safevlm_sdk.errors import BoundUnsupported, CalibrationError, OptionError
from safevlm_training.calibrate_checkpoint import BY_TRAINING, calibrate_checkpoint
from safevlm_training.checkpoint import checkpoint_digest, load_calibration
from safevlm_training.plan import is_checkpoint

STARTER = Path(__file__).parents[2] / "starter" / "checkpoint"
IMAGES = 12


@pytest.fixture(scope="module")
def safe(tmp_path_factory) -> Path:
    folder, rng = tmp_path_factory.mktemp("safe"), np.random.default_rng(0)
    for number in range(IMAGES):
        blotches = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8))
        blotches.resize((96, 96), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def written(safe: Path, tmp_path_factory) -> Written:
    out = tmp_path_factory.mktemp("out") / "checkpoint"
    return calibrate_checkpoint(STARTER, Request(safe=safe, risky=None, demand=Demand(flag_at_most=0.3), out=out))


def test_only_thresholds_and_words_change(written: Written) -> None:
    names = {path.name for path in STARTER.iterdir()} - {"evaluation.json"}  # it was measured at the old thresholds
    assert {path.name for path in written.out.iterdir()} == names
    same = {name for name in names if (written.out / name).read_bytes() == (STARTER / name).read_bytes()}
    assert names - same == {"calibration.json", "training.json", "README.md"}
    assert written.digest == checkpoint_digest(written.out) != checkpoint_digest(STARTER)
    assert is_checkpoint(written.out)


def test_the_evidence_is_in_calibration_training_card_and_page(written: Written) -> None:
    found, old = load_calibration(written.out), load_calibration(STARTER)
    assert found is not None
    assert old is not None
    record = found.calibration.record
    assert record is not None
    assert record.came_from == checkpoint_digest(STARTER)
    assert (record.rates[0].images, record.rates[0].groups) == (IMAGES, IMAGES)
    training = json.loads((written.out / "training.json").read_text())
    assert training["calibrated_again"]["metrics_at_thresholds_are_of"]["any"] == old.thresholds.any
    assert training["name"] == json.loads((STARTER / "training.json").read_text())["name"]
    card = (written.out / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: safevlm-sdk\nlicense:")
    new, _, before = card.partition("## The card that training wrote")
    assert f"| any risk | {found.thresholds.any:.4g} |" in new
    assert "no longer hold" in before
    assert f"{found.thresholds.any:.6g}" in written.page.read_text()


def test_a_checkpoint_looks_at_no_tiles(safe: Path, tmp_path: Path) -> None:
    wanted = Request(
        safe=safe,
        risky=None,
        demand=Demand(flag_at_most=0.3),
        out=tmp_path / "new",
        tiling=Tiling(tile=512, overlap=64, max_views=9),
    )
    with pytest.raises(OptionError, match="export it, then calibrate the bundle for tiles"):
        calibrate_checkpoint(STARTER, wanted)


def test_calibrating_again_and_again_keeps_one_card_of_training(written: Written, safe: Path, tmp_path: Path) -> None:
    cards = [(written.out / "README.md").read_text()]
    source = Path(shutil.copytree(written.out, tmp_path / "first"))
    for number in (2, 3):
        told = cards[-1].replace("---\n\n", "model-index:\n- name: x\n  results: []\n---\n\n", 1)
        (source / "README.md").write_text(told)
        with (source / "README.md").open("a") as card:
            card.write("\n## Evaluation on images that trained nothing\n\nAt the thresholds of before.\n")
        out = tmp_path / str(number)
        calibrate_checkpoint(source, Request(safe=safe, risky=None, demand=Demand(flag_at_most=0.3), out=out))
        cards.append((out / "README.md").read_text())
        source = out
    parts = [card.partition(BY_TRAINING) for card in cards]
    assert len({old for _, _, old in parts}) == 1
    assert [card.count(BY_TRAINING) for card in cards] == [1, 1, 1]
    assert all("## Evaluation on images" not in new for new, _, _ in parts)
    assert [card.count("## Calibration") for card in cards] == [cards[0].count("## Calibration")] * 3
    assert max(map(len, cards)) - min(map(len, cards)) < 100
    assert {card.split("# ", 1)[0] for card in cards} == {cards[0].split("# ", 1)[0]}


def test_it_agrees_with_the_decision_on_each_image(written: Written) -> None:
    outcome = written.outcome
    assert len(outcome.flagged) == outcome.record.rates[0].errors <= (outcome.record.rates[0].allowed or 0)
    assert {sample.type_logits.shape for sample in outcome.data.samples} == {(1, 2)}


def test_it_refuses_and_leaves_everything_as_it_was(safe: Path, tmp_path: Path) -> None:
    demand = Demand(flag_at_most=0.01)
    with pytest.raises(BoundUnsupported, match=r"takes 299 groups .* there are 12"):
        calibrate_checkpoint(STARTER, Request(safe=safe, risky=None, demand=demand, out=tmp_path / "new"))
    with pytest.raises(CalibrationError, match="is the bundle or checkpoint that is calibrated"):
        calibrate_checkpoint(STARTER, Request(safe=safe, risky=None, demand=demand, out=STARTER))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("x")
    with pytest.raises(CalibrationError, match="holds other files"):
        calibrate_checkpoint(STARTER, Request(safe=safe, risky=None, demand=demand, out=tmp_path / "mine"))
    assert not (tmp_path / "new").exists()
