"""A whole training run on a tiny tower: deterministic, resumable after SIGKILL, honest in what it writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image, ImageDraw
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel
from typer.testing import CliRunner

from safevlm_sdk.command.app import app
from safevlm_sdk.errors import CheckpointError, DataError, RecipeError, TrainingError
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

RECIPE = """
schema = 1
[model]
tower = "../tower"
tap = "hidden:-2"
width = 16
[model.coverage]
privacy = "Red squares | stand in for documents."
[[data]]
name = "shapes"
kind = "folder"
path = "../images"
license = "CC0-1.0"
splits = {train = 0.5, validation = 0.25, calibration = 0.25}
[[data]]
name = "more"
kind = "jsonl"
path = "../rows.jsonl"
license = "MIT"
[train]
epochs = 3
batch_size = 8
lr = 0.01
[train.early_stopping]
patience = 2
[calibration]
flag_at_most = 0.2
[output]
path = "out"
name = "Shapes: a test"
license = "Apache-2.0"
"""


TUNED = ("lr = 0.01", "lr = 0.01\nunfreeze_last = 1\ntower_lr = 0.01")
CAPTURED = ('license = "CC0-1.0"', 'license = "CC0-1.0"\nvariants = 1\nweight = 2.0')


def draw(path: Path, rng: np.random.Generator, *, risky: bool) -> None:
    image = Image.fromarray(rng.integers(100, 160, (40, 40, 3), dtype=np.uint8))
    left, top = (int(value) for value in rng.integers(2, 20, 2))
    pen = ImageDraw.Draw(image)
    if risky:
        pen.rectangle((left, top, left + 16, top + 16), fill=(250, 10, 10))
    else:
        pen.ellipse((left, top, left + 16, top + 16), fill=(10, 10, 250))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny tower, 40 images in a folder and 10 in a JSONL file."""
    root = tmp_path_factory.mktemp("world")
    torch.manual_seed(0)
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    CLIPVisionModel(CLIPVisionConfig(**vision, image_size=32, patch_size=8)).save_pretrained(root / "tower")
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessorPil(**size).save_pretrained(root / "tower")
    rng = np.random.default_rng(0)
    for number in range(20):
        draw(root / f"images/privacy/{'high/' if number < 5 else ''}{number}.png", rng, risky=True)
        draw(root / f"images/safe/{number}.png", rng, risky=False)
    lines = []
    for number in range(10):
        draw(root / f"more/{number}.png", rng, risky=number % 2 == 0)
        row = {"image": f"more/{number}.png", "category": ["privacy", "safe"][number % 2], "group": f"g{number // 2}"}
        lines.append(json.dumps(row))
    (root / "rows.jsonl").write_text("\n".join(lines))
    return root


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def workspace(world: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder beside the data with a recipe, whose text may be changed; returns the recipe."""

    def make(name: str, *changes: tuple[str, str]) -> Path:
        folder = world / f"{tmp_path.name}-{name}"
        folder.mkdir()
        text = RECIPE
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (folder / "recipe.toml").write_text(text)
        return folder / "recipe.toml"

    return make


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_run_gives_a_calibrated_checkpoint(workspace: Callable[..., Path]) -> None:
    out = train(workspace("a"), progress=False)
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


def test_the_card_says_what_the_record_says(workspace: Callable[..., Path]) -> None:
    out = train(workspace("card"), progress=False)
    card, record = (out / "README.md").read_text(), json.loads((out / "training.json").read_text())
    assert card.startswith('---\nlibrary_name: safevlm-sdk\nlicense: "Apache-2.0"\n')
    assert "Red squares \\| stand in for documents." in card
    assert f"{record['metrics']['validation']['auroc']:.3f}" in card
    assert record["data"]["digest"] in card
    assert "CC0-1.0" in card
    assert "`politics`" in card
    assert "upper bound" in card


def test_same_recipe_same_bytes_and_the_caller_keeps_his_random_state(workspace: Callable[..., Path]) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = train(workspace("one"), progress=False)
    torch.rand(3)
    second = train(workspace("two"), progress=False)
    torch.set_rng_state(before)
    assert contents(first) == contents(second)
    assert not torch.are_deterministic_algorithms_enabled()
    other = train(workspace("three", ("epochs = 3", "epochs = 3\nseed = 1")), progress=False)
    assert contents(first)["safety.safetensors"] != contents(other)["safety.safetensors"]


def test_a_tuned_tower_is_in_the_checkpoint(workspace: Callable[..., Path]) -> None:
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
    assert not (train(workspace("untuned"), progress=False) / "tower.safetensors").exists()
    with pytest.raises(CheckpointError, match=r"unfreeze_last is 2, .*at most 1"):
        train(workspace("deep", ("lr = 0.01", "lr = 0.01\nunfreeze_last = 2")), progress=False)


def test_what_was_measured_is_what_the_checkpoint_does(
    world: Path, workspace: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
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
    for path in sorted((world / "images").rglob("*.png")) + sorted((world / "more").glob("[0-9].png")):
        pixels = preprocess(decode(path, max_side=1024).frames[0].pixels, model.config.preprocessing)
        with torch.inference_mode():
            found.append(model(torch.from_numpy(pixels)[None])[0].type_logits[0].numpy())
    judged = np.concatenate([one.type_logits for one in kept])
    assert len(judged) == sum(record["metrics"][split]["images"] for split in ("validation", "calibration"))
    distance = np.abs(judged[:, None] - np.array(found)[None]).max(axis=2).min(axis=1)
    assert distance.max() < 1e-4


def test_invented_captures_are_of_training_images_alone(
    workspace: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    invented: list[tuple[str, int]] = []

    def noted(pixels: np.ndarray, key: str, number: int) -> np.ndarray:
        invented.append((key, number))
        return capture_variant(pixels, key, number)

    monkeypatch.setattr("safevlm_training.encode.capture_variant", noted)
    recipe = workspace("captured", (CAPTURED[0], CAPTURED[1].replace("variants = 1", "variants = 2")))
    out = train(recipe, progress=False)
    record = json.loads((out / "training.json").read_text())
    source = record["data"]["sources"][0]
    trained = sum(source["splits"]["train"].values())
    assert sorted(number for _, number in invented) == [1] * trained + [2] * trained
    assert len({key for key, _ in invented}) == trained
    assert record["data"]["invented_captures"] == 2 * trained
    assert f"{2 * trained} invented captures" in (out / "README.md").read_text()
    plain = json.loads((train(workspace("plain"), progress=False) / "training.json").read_text())
    assert [one["splits"] for one in plain["data"]["sources"]] == [one["splits"] for one in record["data"]["sources"]]
    assert (plain["encoder"], plain["data"]["invented_captures"]) == (record["encoder"], 0)
    before = contents(out)
    monkeypatch.setattr(Encoder, "encode", _stop)
    assert contents(train(recipe, progress=False)) == before
    monkeypatch.setattr("safevlm_training.encode.CAPTURE_VERSION", 0)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, progress=False)


def test_another_seed_gives_other_weights_on_the_same_splits(workspace: Callable[..., Path]) -> None:
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


def test_the_command_takes_seed_and_output(workspace: Callable[..., Path]) -> None:
    recipe = workspace("command")
    ran = CliRunner().invoke(app, ["train", str(recipe), "--seed", "4", "--out", str(recipe.parent / "four")])
    assert (ran.exit_code, ran.stdout) == (0, f"checkpoint: {recipe.parent / 'four'}\n")
    assert json.loads((recipe.parent / "four" / "training.json").read_text())["seed"] == 4


def test_a_second_run_computes_no_features(workspace: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = workspace("again")
    first = contents(train(recipe, progress=False))

    def refuse(*_: object) -> None:
        raise AssertionError("an image was encoded again")

    monkeypatch.setattr(Encoder, "encode", refuse)
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: _no_images(self, *a, **k))
    assert contents(train(recipe, progress=False)) == first


def _no_images(path: Path, *args: object, **options: object) -> object:
    if path.suffix == ".png":
        raise AssertionError(f"{path} was opened again")
    return open(path, *args, **options)  # type: ignore[call-overload]


def test_a_state_of_another_recipe_or_data_set_is_refused(
    workspace: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = workspace("mixed")
    monkeypatch.setattr("safevlm_training.train.calibrate", _stop)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, progress=False)
    text = recipe.read_text()
    recipe.write_text(text.replace("lr = 0.01", "lr = 0.02"))
    with pytest.raises(TrainingError, match="of another recipe, data set"):
        train(recipe, progress=False)
    recipe.write_text(text)
    state = recipe.parent / "out.work" / "state.pt"
    whole = state.read_bytes()
    state.write_bytes(whole[:100])
    with pytest.raises(TrainingError, match=r"cannot be read .*remove .*state\.pt"):
        train(recipe, progress=False)
    state.write_bytes(whole)
    monkeypatch.undo()
    assert contents(train(recipe, progress=False)) == contents(train(workspace("whole"), progress=False))


def test_the_best_epoch_is_kept_and_waiting_ends(
    workspace: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
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


def _stop(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_bad_rows_are_all_listed_or_skipped(world: Path, workspace: Callable[..., Path]) -> None:
    rows = world / "bad.jsonl"
    good = (world / "rows.jsonl").read_text()
    (world / "more" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (world / "more" / "text.png").write_text("no image at all")
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
    clean = train(workspace("clean"), progress=False)
    assert contents(out)["safety.safetensors"] == contents(clean)["safety.safetensors"]
    assert json.loads((out / "training.json").read_text())["data"]["bad_rows_left_out"] == 1


def test_what_is_in_the_way_of_the_output_stays(workspace: Callable[..., Path]) -> None:
    recipe = workspace("occupied")
    (recipe.parent / "out").mkdir()
    (recipe.parent / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(RecipeError, match="holds other files"):
        train(recipe, progress=False)
    assert (recipe.parent / "out" / "thesis.txt").read_text() == "years of work"


# Runs in a process of its own: each attempt is a fork that kills itself at its n-th write, sync or rename, after half
# of a write's bytes. Forking after the imports makes an attempt cheap.
DRIVER = """
import json, os, random, shutil, signal, sys, traceback
from pathlib import Path
import torch
torch.set_num_threads(1)
from safevlm_training.plan import plan_recipe
from safevlm_training.train import load_encoder, train

def attempt(recipe, deadly):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        calls, saved = 0, []
        def wrap(name):
            real = getattr(os, name)
            def wrapped(*args, **options):
                nonlocal calls
                calls += 1
                if calls == deadly:
                    if name == "write":
                        real(args[0], bytes(args[1])[: len(args[1]) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
                if name == "replace" and str(args[1]).endswith("state.pt"):
                    saved.append(calls)
                return real(*args, **options)
            setattr(os, name, wrapped)
        code = 1
        try:
            for name in ("write", "fsync", "rename", "replace", "unlink", "ftruncate", "truncate", "mkdir"):
                wrap(name)
            train(recipe, progress=False)
            code = 0
        except BaseException:
            traceback.print_exc()
        with os.fdopen(writer, "w") as pipe:
            json.dump([calls, saved], pipe)
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        calls, saved = json.loads(pipe.read() or "[0, []]")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), calls, saved

def fresh(name):
    folder = world / (prefix + name)
    folder.mkdir()
    shutil.copy(source, folder / "recipe.toml")
    return folder / "recipe.toml"

def digest(recipe):
    return [[path.name, path.read_bytes().hex()] for path in sorted((recipe.parent / "out").iterdir())]

source, prefix = Path(sys.argv[1]), sys.argv[2]
# What is imported lazily is imported once, here; autograd must not run before a fork.
load_encoder(plan_recipe(source))
parameter = torch.nn.Parameter(torch.zeros(1))
parameter.grad = torch.zeros(1)
torch.optim.AdamW([parameter]).step()
world = source.parent.parent
whole = fresh("whole")
code, total, saved = attempt(whole, 0)
assert code == 0, code
expected = digest(whole)
chance, count = random.Random(0), 8
points = [1 + (total * number + chance.randrange(total)) // count for number in range(count)]
points = sorted({*points, *(call + 1 for call in saved)})  # and once after each epoch
outcomes = []
for point in points:
    recipe = fresh(str(point))
    killed, *_ = attempt(recipe, point)
    code, *_ = attempt(recipe, 0)
    outcomes.append([point, killed, code, code == 0 and digest(recipe) == expected])
recipe = fresh("often")
kills = 0
for step in range(12):
    code, *_ = attempt(recipe, 15 + 10 * step)
    if code == 0:
        break
    kills += 1
outcomes.append(["often", -9 if kills else 0, code, code == 0 and digest(recipe) == expected])
print(json.dumps({"total": total, "kills": kills, "saved": saved, "outcomes": outcomes}))
"""


def test_killed_anywhere_and_run_again_gives_the_same_bytes(workspace: Callable[..., Path]) -> None:
    recipe = workspace("killed", TUNED, CAPTURED)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HF_HUB_OFFLINE": "1"}
    arguments = [sys.executable, "-c", DRIVER, str(recipe), f"{recipe.parent.name}-"]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["total"] > 40
    assert len(result["saved"]) == 3
    assert result["kills"] > 2
    for point, killed, code, same in result["outcomes"]:
        assert (killed, code, same) == (-9, 0, True), (point, done.stderr[-3000:])
