"""A bundle to the hub and back, by huggingface_hub's own client against a hub on this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants as constants
import pytest
from typer.testing import CliRunner

from safevlm_runtime import Runtime
from safevlm_runtime.bundle.reader import read_bundle
from safevlm_runtime.hub.bundles import pull_bundle, push_bundle
from safevlm_sdk.command.app import app
from safevlm_sdk.errors import (
    BundleDigest,
    BundleError,
    BundleLayout,
    BundleTampered,
    BundleUnsigned,
    HubContent,
    HubDenied,
    HubError,
    HubNotFound,
    HubUnreachable,
    ManifestError,
    OptionError,
    SafeVLMError,
)
from safevlm_sdk.hub.client import Hub, Target

NAME = "me/colours"
# huggingface_hub 2.4 passes bodies to its own client in a way that the latter deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def content(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_bundle_goes_there_and_comes_back_the_same(hub: Any, bundle: Path, tmp_path: Path) -> None:
    pushed, digest = push_bundle(bundle, Target(repository=NAME, private=True))
    assert digest == read_bundle(bundle).manifest.digest
    assert hub.files(NAME).keys() == {".gitattributes", *content(bundle)}
    assert hub.repositories[NAME].private
    assert any(path.startswith("/store/") for _, path in hub.requests), "no file went by LFS"
    found = pull_bundle(NAME, tmp_path / "out", digest=digest)
    assert content(tmp_path / "out") == content(bundle)
    assert (found.commit, found.revision, found.digest, found.pinned) == (pushed.commit, "main", digest, True)
    assert (found.files, found.size) == (len(content(bundle)), sum(map(len, content(bundle).values())))
    Runtime.load(tmp_path / "out", digest=digest).close()


def test_a_commit_stays_what_it_was_and_a_branch_does_not(hub: Any, maker: Any, tmp_path: Path) -> None:
    first, old = push_bundle(maker.write(tmp_path / "a"), Target(repository=NAME))
    maker.name = "other"
    second, new = push_bundle(maker.write(tmp_path / "b"), Target(repository=NAME))
    assert pull_bundle(NAME, tmp_path / "out", revision=first.commit).digest == old
    assert pull_bundle(NAME, tmp_path / "out").digest == new
    with pytest.raises(BundleDigest, match="is pinned"):
        pull_bundle(NAME, tmp_path / "out", digest=old)
    assert read_bundle(tmp_path / "out").manifest.digest == new
    assert pull_bundle(NAME, tmp_path / "out", revision=first.commit, digest=old).commit == first.commit
    assert first.commit != second.commit
    assert first.commit in first.address


def test_a_push_leaves_no_file_of_the_bundle_before(hub: Any, maker: Any, bundle: Path, tmp_path: Path) -> None:
    hub.hold_folder(NAME, bundle, **{"SIGNATURE": b"of the older one", "LICENSE": b"mine"})
    maker.name = "other"
    push_bundle(maker.write(tmp_path / "b"), Target(repository=NAME))
    assert hub.files(NAME).keys() == {".gitattributes", "LICENSE", *content(tmp_path / "b")}


def test_a_branch_is_made_and_main_stays(hub: Any, bundle: Path, tmp_path: Path) -> None:
    push_bundle(bundle, Target(repository=NAME, revision="next"))
    assert hub.files(NAME).keys() == {".gitattributes"}
    again, _ = push_bundle(bundle, Target(repository=NAME, revision="next"))
    assert pull_bundle(NAME, tmp_path / "out", revision="next").commit == again.commit
    with pytest.raises(HubContent, match=r"holds no manifest\.json"):
        pull_bundle(NAME, tmp_path / "other")


def test_what_is_no_bundle_is_not_overwritten(hub: Any, bundle: Path) -> None:
    hub.hold(NAME, {"weights.bin": b"somebody's"})
    hub.hold("me/other", {"manifest.json": b"{}", "index.js": b"a web page"})
    for name, file in ((NAME, r"weights\.bin"), ("me/other", r"index\.js")):
        with pytest.raises(HubContent, match=f"holds '{file}', which would be lost"):
            push_bundle(bundle, Target(repository=name))
        assert hub.asked(f"{name}/commit") == 0


def test_two_who_push_at_a_time_do_not_mix(hub: Any, bundle: Path) -> None:
    hub.hold(NAME, {})
    hub.before_commit = lambda: hub.hold(NAME, {"theirs.txt": b"x"})
    with pytest.raises(HubError, match=r"the hub answers 412 .*try again"):
        push_bundle(bundle, Target(repository=NAME))
    assert hub.files(NAME).keys() == {"theirs.txt"}


@pytest.mark.parametrize(("there", "wanted"), [(False, True), (True, False)])
def test_a_repository_is_not_taken_for_private(hub: Any, bundle: Path, there: bool, wanted: bool) -> None:
    hub.hold(NAME, {}, private=there)
    with pytest.raises(HubContent, match="nothing was uploaded"):
        push_bundle(bundle, Target(repository=NAME, private=wanted))
    assert hub.asked("preupload") == 0


def linked(folder: Path) -> None:
    (folder / "policy.toml").unlink()
    (folder / "policy.toml").symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (linked, BundleLayout),
        (lambda folder: (folder / "notes.txt").write_text("mine"), BundleLayout),
        (lambda folder: (folder / "policy.toml").write_text("schema = 2"), BundleTampered),
        (lambda folder: (folder / "manifest.json").unlink(), BundleLayout),
    ],
)
def test_what_does_not_load_is_not_pushed(
    hub: Any, bundle: Path, damage: Callable[[Path], Any], error: type[BundleError]
) -> None:
    damage(bundle)
    with pytest.raises(error):
        push_bundle(bundle, Target(repository=NAME))
    assert hub.requests == []


def no_bundle(hub: Any) -> None:
    hub.hold(NAME, {"manifest.json": b"{}", "model.onnx": b"x"})


def lacking(hub: Any) -> None:
    files = dict(hub.files(NAME))
    del files["policy.toml"]
    hub.hold(NAME, files)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda hub: hub.hold(NAME, {**hub.files(NAME), "gate.pkl": b"\x80\x04."}), HubContent, r"holds 'gate\.pkl'"),
        (lambda hub: hub.hold(NAME, {**hub.files(NAME), "graphs/x.py": b""}), HubContent, r"holds 'graphs/x\.py'"),
        (lambda hub: hub.listed.append("../../escape"), HubContent, r"holds '\.\./\.\./escape'"),
        (lacking, HubContent, r"lacks policy\.toml"),
        (no_bundle, ManifestError, "me/colours@"),
        (lambda hub: hub.hold(NAME, {"README.md": b"# nothing"}), HubContent, r"holds no manifest\.json"),
        # What a link in a repository gives is its target's name.
        (lambda hub: hub.hold(NAME, {**hub.files(NAME), "policy.toml": b"/etc/hostname"}), BundleTampered, "policy"),
        (
            lambda hub: hub.delivered.update(
                {"policy.toml": hub.files(NAME)["policy.toml"].replace(b"allow", b"alloW")}
            ),
            BundleTampered,
            "policy",
        ),
        (lambda hub: hub.delivered.update({"golden.npz": b"short"}), HubError, "golden"),
        (lambda hub: setattr(hub.repositories[NAME], "private", True), HubNotFound, "the token may not see it"),
        (lambda hub: setattr(hub.repositories[NAME], "gated", True), HubDenied, "gated; ask for access"),
        (lambda hub: hub.repositories.clear(), HubNotFound, "no such repository"),
        (lambda hub: setattr(hub, "broken", 401), HubDenied, "the hub answers 401"),
        (lambda hub: setattr(hub, "broken", 403), HubDenied, "the hub answers 403"),
    ],
)
def test_whatever_is_wrong_the_old_bundle_stays(
    hub: Any,
    maker: Any,
    bundle: Path,
    tmp_path: Path,
    change: Callable[[Any], Any],
    error: type[SafeVLMError],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_aStrangersToken")
    hub.hold_folder(NAME, bundle)
    maker.name = "old"
    out = maker.write(tmp_path / "out")
    before = content(out)
    change(hub)
    with pytest.raises(error, match=message):
        pull_bundle(NAME, out)
    assert content(out) == before
    assert [entry.name for entry in tmp_path.iterdir() if "safevlm" in entry.name] == []


def test_a_revision_that_is_not_there(hub: Any, bundle: Path, tmp_path: Path) -> None:
    hub.hold_folder(NAME, bundle)
    for revision in ("v9", "0" * 40):
        with pytest.raises(HubNotFound, match="no such branch, tag or commit"):
            pull_bundle(NAME, tmp_path / "out", revision=revision)


def test_nothing_is_asked_where_it_could_not_be_put(hub: Any, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_bytes(b"x")
    with pytest.raises(BundleError, match="holds other files"):
        pull_bundle(NAME, tmp_path / "mine")
    for name in ("colours", "/etc/passwd", "../../x", "a/b/c", ""):
        with pytest.raises(OptionError, match="owner/name"):
            pull_bundle(name, tmp_path / "out")
    assert hub.requests == []


def test_without_a_hub(hub: Any, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubUnreachable, match="does not answer"):
        pull_bundle(NAME, tmp_path / "out")
    with pytest.raises(HubUnreachable, match="does not answer"):
        push_bundle(bundle, Target(repository=NAME))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubUnreachable, match="the hub is not asked"):
        pull_bundle(NAME, tmp_path / "out")


def test_a_hub_that_names_another_commit_is_none(hub: Any, bundle: Path, tmp_path: Path) -> None:
    asked = hub.hold_folder(NAME, bundle)
    hub.repositories[NAME].branches[asked] = hub.hold(NAME, {"x": b""})
    with pytest.raises(HubError, match="is HF_ENDPOINT a hub"):
        pull_bundle(NAME, tmp_path / "out", revision=asked)


@pytest.mark.parametrize("revision", ["", " "])
def test_an_empty_revision_is_not_taken_for_main(hub: Any, bundle: Path, tmp_path: Path, revision: str) -> None:
    hub.hold_folder(NAME, bundle)
    with pytest.raises(OptionError, match="the revision is empty"):
        pull_bundle(NAME, tmp_path / "out", revision=revision)
    with pytest.raises(OptionError, match="the revision is empty"):
        push_bundle(bundle, Target(repository=NAME, revision=revision))
    assert hub.requests == []


def test_a_key_that_signed_nothing(hub: Any, bundle: Path, tmp_path: Path) -> None:
    from safevlm_runtime.bundle.signature import KeySigner

    hub.hold_folder(NAME, bundle)
    with pytest.raises(BundleUnsigned):
        pull_bundle(NAME, tmp_path / "out", signer=KeySigner(public_key=tmp_path / "key.pub"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("token", ["hf_se\x01cret", "hf_se cret", "hf_s\u00e9cret"])
def test_a_token_that_no_header_takes_is_not_repeated(hub: Any, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(OptionError) as caught:
        Hub()
    assert "cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_commands_print_what_to_pin_and_no_token(hub: Any, bundle: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["push", str(bundle), NAME, "--private"])
    assert done.exit_code == 0, done.output
    commit, digest = hub.repositories[NAME].branches["main"], read_bundle(bundle).manifest.digest
    assert f"safevlm pull {NAME} OUT --revision {commit} --digest {digest}" in done.stdout
    out = str(tmp_path / "out")
    loose = CliRunner().invoke(app, ["pull", NAME, out])
    assert loose.exit_code == 0, loose.output
    assert f"{NAME}@main is commit {commit}" in loose.stdout
    assert "the word of the hub" in loose.stderr
    assert f"--revision {commit} --digest {digest}" in loose.stderr
    firm = CliRunner().invoke(app, ["pull", NAME, out, "--revision", commit, "--digest", digest])
    assert (firm.exit_code, "the word of the hub" in firm.output) == (0, False)
    assert hub.tokens - {None} == {"Bearer hf_keepThisSecret"}  # None: to the store, whose addresses are signed
    assert "hf_keepThisSecret" not in done.output + loose.output + firm.output
    shutil.rmtree(bundle)
    bundle.mkdir()
    nothing = CliRunner().invoke(app, ["push", str(bundle), NAME])
    assert isinstance(nothing.exception, OptionError)


def test_a_process_of_its_own_finds_the_hub_by_its_environment(hub: Any, bundle: Path, tmp_path: Path) -> None:
    hub.hold_folder(NAME, bundle)
    hub.repositories[NAME].private = True
    script = Path(sys.executable).parent / "safevlm"
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.address,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(tmp_path / "home"),
    }
    command = [script, "pull", NAME, str(tmp_path / "out")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "manifest.json").read_bytes())["digest"] in done.stdout
    assert "hf_keepThisSecret" not in done.stdout + done.stderr
