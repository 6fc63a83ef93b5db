"""A whole training run on a tiny tower: deterministic, and honest in what it writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from safevlm_sdk.command.app import app
from safevlm_sdk.errors import CheckpointError, DataError, RecipeError
from safevlm_sdk.preprocess import preprocess
from safevlm_sdk.raster import decode
from safevlm_training.capture_variants import capture_variant
from safevlm_training.checkpoint import checkpoint_digest, load_calibration, load_modules
from safevlm_training.encode import Encoder
from safevlm_training.fit import State, judge
from safevlm_training.metrics import Judged
from safevlm_training.plan import plan_recipe
from safevlm_training.risk_model import RiskModel
from safevlm_training.train import load_encoder, train

Workspace = Callable[..., Path]
Contents = Callable[[Path], dict[str, bytes]]
TUNED = ("lr = 0.01", "lr = 0.01\nunfreeze_last = 1\ntower_lr = 0.01")
CAPTURED = ('license = "CC0-1.0"', 'license = "CC0-1.0"\nvariants = 2\nweight = 2.0')


def test_a_run_gives_a_calibrated_checkpoint(trained: Path) -> None:
    out = trained
    calibration = load_calibration(out)
    record = json.loads((out / "training.json").read_text())
    assert calibration is not None
    assert load_modules(out).config.labels == ("privacy", "safe")
    assert checkpoint_digest(out).startswith("sha256:")
    assert calibration.calibration.safe_groups == record["metrics"]["calibration"]["safe_groups"]
    flags = record["metrics"]["calibration"]["at_thresholds"]["false_positives"]
    assert flags["flagged"] <= 0.2 * flags["safe_images"]
    assert record["metrics"]["validation"]["auroc"] > 0.9
    sources = {source["name"]: source for source in record["data"]["sources"]}
    assert (sources["shapes"]["images"], sources["shapes"]["license"]) == (40, "CC0-1.0")
    assert (sources["more"]["images"], sources["more"]["groups"]) == (10, 5)
    assert [path.name for path in out.parent.iterdir() if path.name.endswith("jsonl")] == []
    assert not (out.parent / "out.work" / "state.pt").exists()


def test_the_card_says_what_the_record_says(trained: Path) -> None:
    card, record = (trained / "README.md").read_text(), json.loads((trained / "training.json").read_text())
    assert card.startswith("---\nlibrary_name: safevlm-sdk\nlicense: apache-2.0\n")
    assert "Red squares \\| stand in for documents." in card
    assert f"{record['metrics']['validation']['auroc']:.3f}" in card
    assert record["data"]["digest"] in card
    assert "CC0-1.0" in card
    assert "`politics`" in card
    assert "upper bound" in card


def test_same_recipe_same_bytes_and_the_caller_keeps_his_random_state(
    workspace: Workspace, trained: Path, contents: Contents
) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    second = train(workspace("second"), progress=False)
    assert torch.get_rng_state().equal(before)
    assert contents(trained) == contents(second)
    assert not torch.are_deterministic_algorithms_enabled()
    other = train(workspace("three", ("epochs = 3", "epochs = 3\nseed = 1")), progress=False)
    assert contents(trained)["safety.safetensors"] != contents(other)["safety.safetensors"]


def test_a_tuned_tower_is_in_the_checkpoint(workspace: Workspace, trained: Path) -> None:
    recipe = workspace("tuned", TUNED)
    out = train(recipe, progress=False)
    record = json.loads((out / "training.json").read_text())
    tensors = safetensors.torch.load((out / "tower.safetensors").read_bytes())
    assert {name.partition(".layers.")[2].split(".")[0] for name in tensors} == {"0"}
    model = RiskModel.from_pretrained(out)
    published = load_encoder(plan_recipe(recipe)).tower
    assert record["tower"]["digest"] == published.digest
    assert record["tower"]["tuned_digest"] == model.config.tower.digest == model.tower.digest != published.digest
    before = published.state_dict()
    for name, value in model.tower.state_dict().items():
        assert value.equal(tensors.get(name, before[name]))
    assert record["metrics"]["validation"]["auroc"] > 0.9
    assert "vision tower (last 1 blocks tuned)" in (out / "README.md").read_text()
    assert not (trained / "tower.safetensors").exists()
    with pytest.raises(CheckpointError, match=r"unfreeze_last is 2, .*at most 1"):
        train(workspace("deep", ("lr = 0.01", "lr = 0.01\nunfreeze_last = 2")), progress=False)


def test_what_was_measured_is_what_the_checkpoint_does(
    train_world: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cached half and the tuned half together are the saved model, up to the cache's float32."""
    changes = ("[output]", '[cache]\ndtype = "float32"\n[output]')
    kept: list[Judged] = []

    def noted(*given: Any) -> Judged:
        kept.append(judge(*given))
        return kept[-1]

    monkeypatch.setattr("safevlm_training.train.judge", noted)
    out = train(workspace("measured", TUNED, changes), progress=False)
    model = RiskModel.from_pretrained(out)
    record = json.loads((out / "training.json").read_text())
    found = []
    for path in sorted((train_world / "images").rglob("*.png")) + sorted((train_world / "more").glob("[0-9].png")):
        pixels = preprocess(decode(path, max_side=1024).frames[0].pixels, model.config.preprocessing)
        with torch.inference_mode():
            found.append(model(torch.from_numpy(pixels)[None])[0].type_logits[0].numpy())
    judged = np.concatenate([one.type_logits for one in kept])
    assert len(judged) == sum(record["metrics"][split]["images"] for split in ("validation", "calibration"))
    distance = np.abs(judged[:, None] - np.array(found)[None]).max(axis=2).min(axis=1)
    assert distance.max() < 1e-4


def test_invented_captures_are_of_training_images_alone(
    workspace: Workspace, trained: Path, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    invented: list[tuple[str, int]] = []

    def noted(pixels: np.ndarray, key: str, number: int) -> np.ndarray:
        invented.append((key, number))
        return capture_variant(pixels, key, number)

    monkeypatch.setattr("safevlm_training.encode.capture_variant", noted)
    recipe = workspace("captured", CAPTURED)
    out = train(recipe, progress=False)
    record = json.loads((out / "training.json").read_text())
    source = record["data"]["sources"][0]
    images = sum(source["splits"]["train"].values())
    assert sorted(number for _, number in invented) == [1] * images + [2] * images
    assert len({key for key, _ in invented}) == images
    assert record["data"]["invented_captures"] == 2 * images
    assert f"{2 * images} invented captures" in (out / "README.md").read_text()
    plain = json.loads((trained / "training.json").read_text())
    assert [one["splits"] for one in plain["data"]["sources"]] == [one["splits"] for one in record["data"]["sources"]]
    assert (plain["encoder"], plain["data"]["invented_captures"]) == (record["encoder"], 0)
    before = contents(out)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Encoder, "encode", stop)
    assert contents(train(recipe, progress=False)) == before
    monkeypatch.setattr("safevlm_training.encode.CAPTURE_VERSION", 0)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, progress=False)


def test_another_seed_gives_other_weights_on_the_same_splits(workspace: Workspace, contents: Contents) -> None:
    recipe = workspace("seeds")
    first = train(recipe, progress=False)
    before = contents(first)
    cached = sorted((recipe.parent / "out.work" / "features").rglob("rows.bin"))
    second = train(recipe, seed=1, out=recipe.parent / "seed-1", progress=False)
    assert second == recipe.parent / "seed-1"
    assert contents(first) == before
    assert contents(second)["safety.safetensors"] != before["safety.safetensors"]
    one, two = (json.loads((out / "training.json").read_text()) for out in (first, second))
    assert (one["seed"], two["seed"]) == (0, 1)
    assert one["data"] == two["data"]
    assert sorted((recipe.parent).rglob("rows.bin")) == cached
    assert "| seed | 1 |" in (second / "README.md").read_text()
    stated = workspace("stated", ("epochs = 3", "epochs = 3\nseed = 1"))
    assert contents(train(stated, progress=False)) == contents(second)
    other = train(workspace("splits", ("epochs = 3", "epochs = 3\nsplit_seed = 1")), progress=False)
    assert json.loads((other / "training.json").read_text())["data"] != one["data"]


def test_the_command_takes_seed_and_output(workspace: Workspace) -> None:
    recipe = workspace("command")
    ran = CliRunner().invoke(app, ["train", str(recipe), "--seed", "4", "--out", str(recipe.parent / "four")])
    assert (ran.exit_code, ran.stdout) == (0, f"checkpoint: {recipe.parent / 'four'}\n")
    assert "the safe ones set the thresholds, the others only measure misses\nasked: flag at most" in ran.stderr
    assert ran.stderr.endswith(
        "read README.md in the checkpoint: what it covers, every figure, and where its limits are\n"
    )
    assert json.loads((recipe.parent / "four" / "training.json").read_text())["seed"] == 4


def test_the_best_epoch_is_kept_and_waiting_ends(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of equal AUROCs the lower loss wins, and of equal losses the earlier epoch."""
    script = iter([(0.8, 1.0), (0.9, 2.0), (0.9, 1.0), (0.9, 1.0), (0.7, 0.1), (1.0, 0.0)])
    kept: list[dict[str, torch.Tensor]] = []

    def keep(_: Path, state: State) -> None:
        kept.append({name: value.clone() for name, value in state.weights.items()})

    def scripted(_: object) -> dict[str, float]:
        area, loss = next(script)
        return {"auroc": area, "loss": loss}

    monkeypatch.setattr("safevlm_training.fit.ranking", scripted)
    monkeypatch.setattr("safevlm_training.fit.save_state", keep)
    out = train(workspace("best", ("epochs = 3", "epochs = 9")), progress=False)
    record = json.loads((out / "training.json").read_text())
    assert (record["best_epoch"], len(record["history"])) == (3, 5)
    saved = load_modules(out).state_dict()
    assert all(torch.equal(saved[name.removeprefix("safety.")], value) for name, value in kept[2].items())
    assert not all(torch.equal(saved[name.removeprefix("safety.")], value) for name, value in kept[4].items())


def test_bad_rows_are_all_listed_or_skipped(
    train_world: Path, workspace: Workspace, trained: Path, contents: Contents
) -> None:
    rows = train_world / "bad.jsonl"
    good = (train_world / "rows.jsonl").read_text()
    (train_world / "more" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (train_world / "more" / "text.png").write_text("no image at all")
    broken, text = (json.dumps({"image": f"more/{name}.png", "category": "safe"}) for name in ("broken", "text"))
    typo = json.dumps({"image": "more/0.png", "category": "privcy"})
    rows.write_text(f"{broken}\n{good}\nnot json\n{typo}\n{text}")
    change = ('"../rows.jsonl"', '"../bad.jsonl"')
    recipe = workspace("bad", change)
    with pytest.raises(DataError, match=r"3 bad rows(?s:.*)bad\.jsonl:12(?s:.*):13.*privcy(?s:.*):14: image_format"):
        train(recipe, progress=False)
    rows.write_text(f"{broken}\n{good}\n")
    with pytest.raises(DataError, match=r"1 bad rows(?s:.*)bad\.jsonl:1: image_corrupt"):
        train(recipe, progress=False)
    skipping = workspace("skip", change, ("schema = 1", 'schema = 1\nbad_rows = "skip"'))
    out = train(skipping, progress=False)
    listed = [json.loads(line) for line in (skipping.parent / "out.bad_rows.jsonl").read_text().splitlines()]
    assert [row["where"] for row in listed] == [f"{rows.resolve()}:1"]
    assert contents(out)["safety.safetensors"] == contents(trained)["safety.safetensors"]
    assert json.loads((out / "training.json").read_text())["data"]["bad_rows_left_out"] == 1


def test_what_is_in_the_way_of_the_output_stays(workspace: Workspace) -> None:
    recipe = workspace("occupied")
    (recipe.parent / "out").mkdir()
    (recipe.parent / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(RecipeError, match="holds other files"):
        train(recipe, progress=False)
    assert (recipe.parent / "out" / "thesis.txt").read_text() == "years of work"
