"""docs/hub.md: its commands and its example run, against a hub on this machine."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import safevlm_training
from safevlm_runtime.bundle.reader import read_bundle
from safevlm_sdk import errors
from safevlm_sdk.command.app import app
from safevlm_training.checkpoint import checkpoint_digest
from safevlm_training.risk_model import RiskModel

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "hub.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def test_the_commands(hub: Any, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle.parent)
    shutil.copytree(ROOT / "starter" / "checkpoint", bundle.parent / "checkpoint")
    digest = read_bundle(bundle).manifest.digest
    push, pull, checkpoint = re.findall(r"^    safevlm (.*)$", PAGE, re.MULTILINE)
    assert CliRunner().invoke(app, shlex.split(push)).exit_code == 0
    commit = hub.repositories["owner/name"].branches["main"]
    line = pull.replace("COMMIT", commit).replace("sha256:…", digest)
    assert CliRunner().invoke(app, shlex.split(line)).exit_code == 0
    hub.repositories.clear()
    assert CliRunner().invoke(app, shlex.split(checkpoint)).exit_code == 0


def test_the_example(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    starter = ROOT / "starter" / "checkpoint"
    commit = hub.hold_folder("owner/gate", starter)
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "push_to_hub" in block)
    # A model that needs no language model stands for SafeVLM, which test_checkpoints.py loads.
    monkeypatch.setattr(safevlm_training, "SafeVLM", RiskModel)
    code = code.replace('"…"', repr(commit)).replace('"sha256:…"', repr(checkpoint_digest(starter)))
    names: dict[str, Any] = {"model": RiskModel.from_pretrained(starter)}
    exec(compile(code, "hub.md", "exec"), names)
    assert names["pushed"].commit == hub.repositories["owner/name"].branches["main"]


def test_every_error_of_the_hub_is_named() -> None:
    codes = {
        kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.HubError)
    }
    named = set(re.findall(r"`([a-z]+_[a-z_]+)`", PAGE.partition("## When it does not work")[2]))
    assert codes <= named
    assert {code for code in named if code.startswith("bundle_")} <= {
        kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.BundleError)
    }
