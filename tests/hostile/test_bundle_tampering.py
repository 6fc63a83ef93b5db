"""Five hundred ways to tamper with a bundle, five hundred refusals by name, before any engine sees a byte."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import msgspec
import pytest

from safevlm_runtime.bundle.reader import read_bundle
from safevlm_sdk.errors import (
    BundleDigest,
    BundleError,
    BundleLayout,
    BundleMissing,
    BundleTampered,
    ManifestError,
)
from safevlm_sdk.manifest import parse_manifest
from safevlm_sdk.strict import canonical_json, digest

FILES = (
    "manifest.json",
    "graphs/gate.fp32.onnx",
    "graphs/safety_head.fp32.onnx",
    "golden.npz",
    "policy.toml",
    "README.md",
)
FLIPS_PER_FILE = 80


def edited(folder: Path, edit, *, reseal: bool) -> None:
    path = folder / "manifest.json"
    plain = msgspec.json.decode(path.read_bytes())
    edit(plain)
    if reseal:
        plain.pop("digest")
        plain["digest"] = digest(canonical_json(plain))
    path.write_bytes(canonical_json(plain))


def test_an_untouched_bundle_is_read(bundle):
    read = read_bundle(bundle)
    assert set(read.graphs) == {"gate.fp32", "safety_head.fp32"}
    assert read_bundle(bundle, digest=read.manifest.digest).pinned


def test_every_flipped_bit_is_refused(bundle):
    refused = 0
    for name in FILES:
        path = bundle / name
        whole = path.read_bytes()
        for step in range(FLIPS_PER_FILE):
            at = step * len(whole) // FLIPS_PER_FILE
            path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << (step % 8))]) + whole[at + 1 :])
            with pytest.raises((BundleTampered, ManifestError)):
                read_bundle(bundle)
            refused += 1
        path.write_bytes(whole)
    assert refused == FLIPS_PER_FILE * len(FILES)
    read_bundle(bundle)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "how", ["remove", "rename", "upper", "empty", "cut", "grow", "symlink", "hardlink", "fifo", "folder", "socket"]
)
def test_every_changed_file_is_refused(bundle, tmp_path, name, how, monkeypatch):
    path = bundle / name
    outside = tmp_path / "outside"
    shutil.copy(path, outside)
    data = path.read_bytes()
    path.unlink()
    if how == "rename":
        path.with_name(path.name + "x").write_bytes(data)
    elif how == "upper":
        path.with_name(path.name.swapcase()).write_bytes(data)
    elif how in ("empty", "cut", "grow"):
        path.write_bytes({"empty": b"", "cut": data[:-1], "grow": data + b"\0"}[how])
    elif how == "symlink":
        path.symlink_to(outside)
    elif how == "hardlink":
        os.link(outside, path)
    elif how == "fifo":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    elif how == "socket":
        monkeypatch.chdir(path.parent)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    wanted = (BundleTampered, ManifestError) if how in ("empty", "cut", "grow") else BundleLayout
    with pytest.raises(wanted):
        read_bundle(bundle)


@pytest.mark.parametrize(
    "name", ["extra", ".hidden", "graphs/extra.onnx", "graphs/.x", "Policy.toml", "SIGNATURE.bak", "new/file", "é"]
)
def test_every_unlisted_file_is_refused(bundle, name):
    path = bundle / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    with pytest.raises(BundleLayout):
        read_bundle(bundle)


def test_an_empty_folder_is_refused_and_a_signature_is_not(bundle):
    (bundle / "SIGNATURE").write_bytes(b"x")
    assert read_bundle(bundle).signed
    (bundle / "graphs" / "empty").mkdir()
    with pytest.raises(BundleLayout, match="graphs/empty"):
        read_bundle(bundle)


def test_a_linked_bundle_and_a_linked_folder_are_refused(bundle, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(bundle)
    with pytest.raises(BundleLayout):
        read_bundle(link)
    (bundle / "graphs").rename(tmp_path / "graphs")
    (bundle / "graphs").symlink_to(tmp_path / "graphs")
    with pytest.raises(BundleLayout):
        read_bundle(bundle)


@pytest.mark.parametrize("where", ["nothing", "file", "empty"])
def test_what_is_no_bundle_is_named(tmp_path, where):
    path = tmp_path / where
    if where == "file":
        path.write_bytes(b"x")
    elif where == "empty":
        path.mkdir()
    with pytest.raises(BundleMissing if where == "nothing" else BundleLayout):
        read_bundle(path)


def softer(plain):
    plain["thresholds"]["any"] = 1.0


EDITS = {
    "threshold": softer,
    "labels": lambda plain: plain.update(labels=["privacy", "illegal_risk", "safe"]),
    "temperature": lambda plain: plain["calibration"].update(temperature=9.0),
    "name": lambda plain: plain.update(name="other"),
    "coverage": lambda plain: plain["coverage"].update(privacy="everything"),
    "tolerance": lambda plain: plain["graphs"][0]["tolerance"].update(type_logits=99.0),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_manifest_needs_a_new_digest_which_a_pin_refuses(bundle, edit):
    pin = read_bundle(bundle).manifest.digest
    edited(bundle, EDITS[edit], reseal=False)
    with pytest.raises(ManifestError, match="digest"):
        read_bundle(bundle)
    edited(bundle, lambda plain: None, reseal=True)
    parse_manifest((bundle / "manifest.json").read_bytes())
    with pytest.raises(BundleDigest, match="pinned"):
        read_bundle(bundle, digest=pin)


@pytest.mark.parametrize("version", [0, 2, 99, "1", None])
def test_another_schema_version_is_refused(bundle, version):
    edited(bundle, lambda plain: plain.update(schema_version=version), reseal=True)
    with pytest.raises(ManifestError, match="schema_version"):
        read_bundle(bundle)


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "graphs/../README.md", "./README.md", "a//b", "a\\b"])
def test_paths_that_leave_the_bundle_are_refused(bundle, path):
    edited(bundle, lambda plain: plain["files"].update({path: "sha256:" + "0" * 64}), reseal=True)
    with pytest.raises(ManifestError, match="plain path"):
        read_bundle(bundle)


@pytest.mark.parametrize("old", [b'"digest":', b'"labels":', b'"files":'])
def test_duplicate_keys_and_other_spellings_are_refused(bundle, old):
    path = bundle / "manifest.json"
    whole = path.read_bytes()
    for bad in (whole.replace(old, old + b"1," + old, 1), whole.replace(old, b" " + old, 1), whole + b"\n"):
        path.write_bytes(bad)
        with pytest.raises(ManifestError):
            read_bundle(bundle)


def test_the_model_of_another_bundle_is_refused(bundle, maker, tmp_path):
    maker.labels = ("privacy", "safe")
    other = maker.write(tmp_path / "other")
    shutil.copy(other / "graphs/gate.fp32.onnx", bundle / "graphs/gate.fp32.onnx")
    with pytest.raises(BundleTampered, match=r"gate\.fp32\.onnx"):
        read_bundle(bundle)


@pytest.mark.parametrize("pin", ["", "sha256:", "sha1:00", "sha256:" + "G" * 64, "0" * 64])
def test_a_pin_that_is_no_digest_is_refused(bundle, pin):
    with pytest.raises(BundleDigest):
        read_bundle(bundle, digest=pin)


@pytest.mark.parametrize("data", [b"", b"PK\3\4", b"x" * 5000, b"\x93NUMPY"])
def test_a_resealed_broken_golden_file_is_a_named_error(bundle, data):
    (bundle / "golden.npz").write_bytes(data)
    edited(bundle, lambda plain: plain["files"].update({"golden.npz": digest(data)}), reseal=True)
    with pytest.raises(ManifestError, match=r"golden\.npz"):
        read_bundle(bundle)


def test_deeply_nested_policy_is_a_named_error(bundle):
    data = b"x = " + b"[" * 20000 + b"]" * 20000
    (bundle / "policy.toml").write_bytes(data)
    edited(bundle, lambda plain: plain["files"].update({"policy.toml": digest(data)}), reseal=True)
    with pytest.raises(Exception, match="policy") as caught:
        read_bundle(bundle)
    assert not isinstance(caught.value, (BundleError, RecursionError))
