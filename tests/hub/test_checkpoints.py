"""Checkpoints to the hub and back: the gate on a tower, and the one before a language model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants as constants
import pytest
import torch
from typer.testing import CliRunner

from safevlm_sdk.command.app import app
from safevlm_sdk.errors import CheckpointError, HubContent, HubDenied, HubError, HubNotFound, HubUnreachable
from safevlm_training.checkpoint import CHECKPOINT_FILES, checkpoint_digest, load_calibration
from safevlm_training.hub import find_checkpoint
from safevlm_training.quiet import quiet
from safevlm_training.risk_model import RiskModel
from safevlm_training.vlm.proof_model import proof_model
from safevlm_training.vlm.safe_vlm import SafeVLM
from safevlm_training.vlm.tiny import tiny_vlm

STARTER = Path(__file__).resolve().parents[2] / "starter" / "checkpoint"
NAME = "me/gate"
# huggingface_hub 2.4 passes bodies to its own client in a way that the latter deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SafeVLM:
    """A tiny one with adapters; for reading."""
    base = tmp_path_factory.mktemp("base")
    with quiet():
        vlm, processor = tiny_vlm("llava")
        vlm.save_pretrained(base)
        processor.save_pretrained(base)
    found = proof_model(*tiny_vlm("llava"), str(base))
    found.add_lora(r=2)
    return found


@pytest.fixture
def starter(hub: Any) -> str:
    """The starter's checkpoint on the hub, as a commit."""
    return str(hub.hold_folder(NAME, STARTER))


def test_a_model_goes_there_and_comes_back_the_same(hub: Any, model: SafeVLM, tmp_path: Path) -> None:
    pushed = model.push_to_hub(NAME, private=True)
    assert (pushed.repository, pushed.commit) == (NAME, hub.repositories[NAME].branches["main"])
    names = hub.files(NAME).keys()
    assert {"config.json", "README.md", "lora/adapter_model.safetensors", "processor/tokenizer.json"} <= names
    weights = [name for name in names if name.endswith(".safetensors")]
    assert sorted(weights) == ["lora/adapter_model.safetensors", "safety.safetensors"], "no weight of the base model"
    model.save_pretrained(tmp_path / "here")
    digest = checkpoint_digest(tmp_path / "here")
    loaded = SafeVLM.from_pretrained(NAME, revision=pushed.commit, digest=digest)
    state, expected = loaded.safety.state_dict(), model.safety.state_dict()
    assert state.keys() == expected.keys()
    assert all(value.equal(expected[name]) for name, value in state.items())
    assert loaded.lora is not None


def test_a_branch_and_one_call_that_saves_and_pushes(hub: Any, model: SafeVLM, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "here", push_to_hub=NAME)
    assert {path: data for path, data in hub.files(NAME).items() if path != ".gitattributes"} == {
        file.relative_to(tmp_path / "here").as_posix(): file.read_bytes()
        for file in (tmp_path / "here").rglob("*")
        if file.is_file()
    }
    main = hub.repositories[NAME].branches["main"]
    pushed = model.push_to_hub(NAME, revision="next", card="# Next\n")
    assert hub.files(NAME, "next")["README.md"] == b"# Next\n"
    assert hub.repositories[NAME].branches == {"main": main, "next": pushed.commit}


def test_the_gate_on_a_tower_is_loaded_and_pushed(hub: Any, starter: str, tmp_path: Path) -> None:
    found = RiskModel.from_pretrained(NAME, revision=starter, digest=checkpoint_digest(STARTER))
    expected = RiskModel.from_pretrained(STARTER)
    pixels = torch.rand(1, 3, 304, 304, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert found(pixels)[0].type_logits.equal(expected(pixels)[0].type_logits)
    calibration = load_calibration(STARTER)
    found.push_to_hub("me/copy", calibration=calibration)
    found.save_pretrained(tmp_path / "here", calibration=calibration, push_to_hub="me/again")
    for name in ("me/copy", "me/again"):
        files = {path: data for path, data in hub.files(name).items() if path in CHECKPOINT_FILES}
        (tmp_path / name).mkdir(parents=True)
        for path, data in files.items():
            (tmp_path / name / path).write_bytes(data)
        assert checkpoint_digest(tmp_path / name) == checkpoint_digest(STARTER)


def test_the_command_pushes_a_checkpoint_as_it_lies_there(hub: Any, tmp_path: Path) -> None:
    shutil.copytree(STARTER, tmp_path / "starter")
    done = CliRunner().invoke(app, ["push", str(tmp_path / "starter"), NAME])
    assert done.exit_code == 0, done.output
    commit = hub.repositories[NAME].branches["main"]
    assert f'revision="{commit}", digest="{checkpoint_digest(STARTER)}"' in done.stdout
    assert hub.files(NAME)["evaluation.json"] == (STARTER / "evaluation.json").read_bytes()
    (tmp_path / "starter" / "optimizer.pt").write_bytes(b"x")
    done = CliRunner().invoke(app, ["push", str(tmp_path / "starter"), NAME])
    assert isinstance(done.exception, CheckpointError)
    assert "holds nothing else" in str(done.exception)


@pytest.mark.parametrize("path", ["pytorch_model.bin", "lora/adapter_model.bin", "processor/run.py", "notes/a.json"])
def test_a_repository_with_more_than_a_checkpoint_is_refused(hub: Any, path: str) -> None:
    hub.hold_folder(NAME, STARTER, **{path: b"\x80\x04."})
    with pytest.raises(HubContent, match=f"holds '{path}'.*nothing was downloaded"):
        RiskModel.from_pretrained(NAME)
    assert hub.asked("/resolve/") == 0
    with pytest.raises(HubContent, match="which would be lost"):
        RiskModel.from_pretrained(STARTER).push_to_hub(NAME)


def test_people_may_keep_a_licence_there_and_it_is_not_downloaded(hub: Any) -> None:
    hub.hold_folder(NAME, STARTER, LICENSE=b"mine")
    folder = find_checkpoint(NAME)
    assert {file.name for file in folder.iterdir()} == {file.name for file in STARTER.iterdir()}


def moved(hub: Any) -> Callable[[], Any]:
    """Lets the branch move on as soon as it was listed."""
    resolve = hub.repositories[NAME].resolve
    asked: list[str] = []

    def later(revision: str) -> Any:
        asked.append(revision)
        if len(asked) == 2:
            hub.hold(NAME, {**hub.files(NAME), "README.md": b"# later\n"})
        return resolve(revision)

    return later


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda hub: setattr(hub.repositories[NAME], "gated", True), HubDenied, "gated"),
        (lambda hub: setattr(hub.repositories[NAME], "private", True), HubNotFound, "the token may not see it"),
        (lambda hub: setattr(hub, "broken", 401), HubDenied, "answers 401"),
        (lambda hub: hub.hold(NAME, {"README.md": b"# a card"}), HubContent, r"holds no config\.json"),
        (lambda hub: setattr(hub.repositories[NAME], "resolve", moved(hub)), HubContent, "its branch moved on"),
        (lambda hub: hub.delivered.update({"config.json": b"{}"}), HubError, "Consistency check failed"),
        (
            lambda hub: hub.hold(NAME, {**hub.files(NAME), "calibration.json": b"/etc/hostname"}),
            CheckpointError,
            "digest is",
        ),
    ],
)
def test_what_is_wrong_is_said(
    hub: Any,
    starter: str,
    change: Callable[[Any], Any],
    error: type[Exception],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_aStrangersToken")
    change(hub)
    with pytest.raises(error, match=message):
        find_checkpoint(NAME, digest=checkpoint_digest(STARTER))


def test_without_a_hub_only_a_commit_or_an_explicit_wish_takes_the_cache(
    hub: Any, starter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HubNotFound, match="no such branch, tag or commit"):
        find_checkpoint(NAME, revision="v9")
    found = find_checkpoint(NAME)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert find_checkpoint(NAME, revision=starter) == found
    with pytest.raises(HubUnreachable, match="name a commit, or set HF_HUB_OFFLINE=1"):
        find_checkpoint(NAME)
    with pytest.raises(HubUnreachable):
        find_checkpoint("me/never", revision=starter)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find_checkpoint(NAME) == found


def test_a_card_that_the_hub_refuses_is_said(hub: Any, tmp_path: Path) -> None:
    shutil.copytree(STARTER, tmp_path / "starter")
    (tmp_path / "starter" / "README.md").write_text('---\nlicense: "my own words"\n---\n# x\n')
    done = CliRunner().invoke(app, ["push", str(tmp_path / "starter"), NAME])
    assert isinstance(done.exception, HubError)
    assert '"license" must be one of those' in str(done.exception)
    assert hub.files(NAME).keys() == {".gitattributes"}


def test_a_folder_needs_no_hub(hub: Any, tmp_path: Path) -> None:
    assert find_checkpoint(STARTER) == STARTER
    with pytest.raises(CheckpointError, match="is pinned; get that one"):
        find_checkpoint(STARTER, digest="sha256:" + "0" * 64)
    with pytest.raises(CheckpointError, match="is pinned; get that one"):
        find_checkpoint(STARTER, digest="sha256:…")
    with pytest.raises(CheckpointError, match="is a folder, which has no revision 'v1'"):
        find_checkpoint(STARTER, revision="v1")
    with pytest.raises(CheckpointError, match="no checkpoint folder, and no Hugging Face id"):
        SafeVLM.from_pretrained("/nowhere/at/all")
    (tmp_path / "config.json").write_text("{}")
    done = CliRunner().invoke(app, ["push", str(tmp_path), NAME])
    assert isinstance(done.exception, CheckpointError)
    assert hub.requests == []
