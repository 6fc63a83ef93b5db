"""A training run that starts again, after SIGKILL too, ends with the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from safevlm_sdk.errors import CheckpointError, TrainingError
from safevlm_training.encode import Encoder
from safevlm_training.train import train

Workspace = Callable[..., Path]
Contents = Callable[[Path], dict[str, bytes]]
TUNED = ("lr = 0.01", "lr = 0.01\nunfreeze_last = 1\ntower_lr = 0.01")
CAPTURED = ('license = "CC0-1.0"', 'license = "CC0-1.0"\nvariants = 1\nweight = 2.0')


def test_a_second_run_computes_no_features(
    workspace: Workspace, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_other_bounds_keep_the_weights(
    workspace: Workspace, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = workspace("bounds", TUNED)
    out = train(recipe, progress=False)
    first, text = contents(out), recipe.read_text()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it trained again")

    monkeypatch.setattr("safevlm_training.train.fit", refuse)
    assert "flag_at_most = 0.2" in text
    recipe.write_text(text.replace("flag_at_most = 0.2", "flag_at_most = 0.6"))
    second = contents(train(recipe, progress=False))
    same = {name for name, data in first.items() if second[name] == data}
    assert same == {"config.json", "safety.safetensors", "tower.safetensors"}
    records = [json.loads(files["training.json"]) for files in (first, second)]
    assert records[0]["fingerprint"] == records[1]["fingerprint"]
    assert records[0]["history"] == records[1]["history"]
    recipe.write_text(text)
    assert contents(train(recipe, progress=False)) == first
    (out / "tower.safetensors").unlink()
    with pytest.raises(CheckpointError, match="tuned tower is not the one"):
        train(recipe, progress=False)
    recipe.write_text(text.replace("lr = 0.01", "lr = 0.02", 1))
    with pytest.raises(AssertionError, match="it trained again"):
        train(recipe, progress=False)


def test_a_state_of_another_recipe_or_data_set_is_refused(
    workspace: Workspace, trained: Path, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = workspace("mixed")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("safevlm_training.train.calibrate", stop)
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
    assert contents(train(recipe, progress=False)) == contents(trained)


def test_killed_anywhere_and_run_again_gives_the_same_bytes(workspace: Workspace) -> None:
    recipe = workspace("killed", TUNED, CAPTURED)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HF_HUB_OFFLINE": "1"}
    script = Path(__file__).parent / "train_faults.py"
    arguments = [sys.executable, str(script), str(recipe), f"{recipe.parent.name}-"]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["total"] > 40
    assert len(result["saved"]) == 3
    assert result["kills"] > 2
    for point, killed, code, same in result["outcomes"]:
        assert (killed, code, same) == (-9, 0, True), (point, done.stderr[-3000:])
