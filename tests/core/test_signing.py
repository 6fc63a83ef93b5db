"""Bundles signed with real keys: the right signature passes, everything else is refused by name."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from typer.testing import CliRunner

from safevlm_export.sign import PASSWORD_VARIABLE, key_signer, sign_bundle
from safevlm_runtime.bundle.reader import read_bundle
from safevlm_runtime.bundle.signature import KeySigner
from safevlm_runtime.bundle.verify import verify_bundle
from safevlm_runtime.runtime import Runtime
from safevlm_sdk.command.app import app
from safevlm_sdk.errors import (
    BundleDigest,
    BundleLayout,
    BundleSignature,
    BundleSigner,
    BundleTampered,
    BundleUnsigned,
    MissingExtra,
    OptionError,
)
from safevlm_sdk.strict import canonical_json, digest


def make_key(folder: Path, name: str, password: bytes | None = None, curve=ec.SECP256R1, kind=None) -> Path:
    key = ec.generate_private_key(curve()) if kind is None else kind.generate()
    how = serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.pem").write_bytes(private)
    (folder / f"{name}.pub").write_bytes(public)
    return folder / f"{name}.pem"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return make_key(tmp_path / "keys", "mine")


@pytest.fixture
def signed(bundle: Path, key: Path) -> Path:
    """A signed bundle."""
    sign_bundle(bundle, key_signer(key))
    return bundle


@pytest.fixture
def mine(key: Path) -> KeySigner:
    """Who signed it."""
    return KeySigner(public_key=key.with_suffix(".pub"))


def restated(folder: Path, edit) -> None:
    """Changes the signed statement, but not its signature."""
    path = folder / "SIGNATURE"
    plain = json.loads(path.read_text())
    statement = json.loads(base64.b64decode(plain["dsseEnvelope"]["payload"]))
    edit(statement)
    plain["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    path.write_text(json.dumps(plain))


def test_the_right_signature_passes_and_the_verdict_is_the_same(signed, mine, paint):
    assert read_bundle(signed, signer=mine).verified
    report = verify_bundle(signed, signer=mine)
    assert f"signature by the key of {mine.public_key}" in report.render()
    assert f"digest    {report.digest} (signed: pin it where bundles are loaded)" in report.render()
    with Runtime.load(signed, public_key=mine.public_key) as trusted, Runtime.load(signed) as plain:
        assert trusted.check(paint(0, 0, 250)).category == plain.check(paint(0, 0, 250)).category == "privacy"


def test_a_signature_says_nothing_until_it_is_asked(signed):
    assert not read_bundle(signed).verified
    assert "there, not verified" in verify_bundle(signed).render()


def test_the_libraries_own_command_agrees(signed, mine, bundle):
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(bundle / "manifest.json")]
    command += ["--signature", str(bundle / "SIGNATURE"), "--public_key", str(mine.public_key)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    (bundle / "manifest.json").write_bytes(b"{}")
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize("curve", [ec.SECP384R1, ec.SECP521R1])
def test_other_curves(bundle, tmp_path, curve):
    key = make_key(tmp_path / "keys", "long", curve=curve)
    sign_bundle(bundle, key_signer(key))
    assert read_bundle(bundle, signer=KeySigner(public_key=key.with_suffix(".pub"))).verified


def test_no_signature_is_refused(bundle, mine):
    with pytest.raises(BundleUnsigned, match="holds no SIGNATURE"):
        read_bundle(bundle, signer=mine)


def test_another_key_is_refused(signed, tmp_path):
    other = make_key(tmp_path / "keys", "other").with_suffix(".pub")
    with pytest.raises(BundleSigner, match="is not by the key of"):
        Runtime.load(signed, public_key=other)


@pytest.mark.parametrize("name", ["graphs/gate.fp32.onnx", "golden.npz", "policy.toml", "README.md"])
def test_a_changed_file_is_refused(signed, mine, name):
    whole = (signed / name).read_bytes()
    (signed / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BundleTampered, match=name):
        read_bundle(signed, signer=mine)


def test_a_manifest_that_was_changed_and_sealed_again_is_refused(signed, mine):
    path = signed / "manifest.json"
    plain = msgspec.json.decode(path.read_bytes())
    plain["thresholds"]["any"] = 1.0
    del plain["digest"]
    plain["digest"] = digest(canonical_json(plain))
    path.write_bytes(canonical_json(plain))
    read_bundle(signed)
    with pytest.raises(BundleSignature, match="the manifest was changed"):
        read_bundle(signed, signer=mine)


def test_the_signature_of_another_bundle_is_refused(signed, mine, maker, tmp_path):
    maker.name = "another"
    other = maker.write(tmp_path / "another")
    shutil.copy(signed / "SIGNATURE", other / "SIGNATURE")
    with pytest.raises(BundleSignature, match="signs another bundle"):
        read_bundle(other, signer=mine)


def test_a_statement_made_to_fit_another_bundle_is_refused(signed, mine, maker, tmp_path):
    maker.name = "another"
    other = maker.write(tmp_path / "another")
    shutil.copy(signed / "SIGNATURE", other / "SIGNATURE")
    manifest = digest((other / "manifest.json").read_bytes()).removeprefix("sha256:")
    restated(other, lambda statement: statement["predicate"]["resources"][0].update(digest=manifest))
    with pytest.raises(BundleSigner):
        read_bundle(other, signer=mine)


def test_a_key_that_signed_a_folder_of_something_else_signs_no_bundle(bundle, key, mine, tmp_path):
    """The library alone would accept it: it skips the paths that a signed statement names as ignored."""
    from model_signing import hashing, signing

    empty = tmp_path / "empty"
    empty.mkdir()
    ignoring = hashing.Config().set_ignored_paths(paths=["."])
    config = signing.Config().use_elliptic_key_signer(private_key=key).set_hashing_config(ignoring)
    config.sign(empty, bundle / "SIGNATURE")
    with pytest.raises(BundleSignature, match="0 files"):
        read_bundle(bundle, signer=mine)


@pytest.mark.parametrize(
    "edit",
    [
        lambda statement: statement.update(_type="https://in-toto.io/Statement/v0.1"),
        lambda statement: statement.update(predicateType="https://model_signing/Digests/v0.1"),
        lambda statement: statement["predicate"]["resources"].append(statement["predicate"]["resources"][0]),
        lambda statement: statement["predicate"]["resources"][0].update(name="manifest.json"),
        lambda statement: statement["predicate"]["resources"][0].update(algorithm="blake3"),
        lambda statement: statement.pop("predicate"),
    ],
)
def test_other_statements_are_refused(signed, mine, edit):
    restated(signed, edit)
    with pytest.raises(BundleSignature):
        read_bundle(signed, signer=mine)


def test_every_flipped_bit_of_the_signature_is_refused_by_name_or_changes_nothing_signed(signed, mine):
    whole = (signed / "SIGNATURE").read_bytes()
    payload, signature = (json.loads(whole)["dsseEnvelope"][name] for name in ("payload", "signatures"))
    refused = 0
    for step in range(40):
        at = step * len(whole) // 40
        changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        (signed / "SIGNATURE").write_bytes(changed)
        try:
            read_bundle(signed, signer=mine)
        except BundleSignature:
            refused += 1
        else:
            envelope = json.loads(changed)["dsseEnvelope"]
            assert (envelope["payload"], envelope["signatures"][0]["sig"]) == (payload, signature[0]["sig"])
    assert refused > 30


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"dsseEnvelope":{"payload":"e30="}}'])
def test_no_signature_at_all(signed, mine, data):
    (signed / "SIGNATURE").write_bytes(data)
    with pytest.raises(BundleSignature):
        read_bundle(signed, signer=mine)


def test_a_signature_behind_a_link_or_too_large_is_refused(signed, mine, tmp_path):
    path = signed / "SIGNATURE"
    path.write_bytes(path.read_bytes() + b" " * 2**20)
    with pytest.raises(BundleLayout, match="at most"):
        read_bundle(signed, signer=mine)
    path.rename(tmp_path / "SIGNATURE")
    path.symlink_to(tmp_path / "SIGNATURE")
    with pytest.raises(BundleLayout):
        read_bundle(signed, signer=mine)


def test_a_pinned_digest_counts_beside_a_signature(signed, mine):
    with pytest.raises(BundleDigest):
        read_bundle(signed, signer=mine, digest="sha256:" + "0" * 64)


def test_keys_that_cannot_be_used(signed, tmp_path, key, monkeypatch):
    strange = make_key(tmp_path / "keys", "strange", kind=ed25519.Ed25519PrivateKey)
    for path in (strange.with_suffix(".pub"), key, tmp_path / "absent.pub"):
        with pytest.raises(OptionError):
            read_bundle(signed, signer=KeySigner(public_key=path))
    for path in (strange, key.with_suffix(".pub"), tmp_path / "absent.pem"):
        with pytest.raises(OptionError):
            key_signer(path)
    locked = make_key(tmp_path / "keys", "locked", password=b"open sesame")
    with pytest.raises(OptionError, match=PASSWORD_VARIABLE):
        key_signer(locked)
    monkeypatch.setenv(PASSWORD_VARIABLE, "open sesame")
    sign_bundle(signed, key_signer(locked))
    assert read_bundle(signed, signer=KeySigner(public_key=locked.with_suffix(".pub"))).verified


def test_without_the_library_the_extra_is_named(signed, mine, key, monkeypatch):
    monkeypatch.setitem(sys.modules, "model_signing", None)
    for attempt in (lambda: read_bundle(signed, signer=mine), lambda: key_signer(key)):
        with pytest.raises(MissingExtra, match=r"safevlm-sdk\[sign\]"):
            attempt()


def test_the_command(signed, mine, tmp_path):
    done = CliRunner().invoke(app, ["verify", str(signed), "--key", str(mine.public_key)])
    assert done.exit_code == 0, done.output
    assert "signature by the key of" in done.output
    other = make_key(tmp_path / "keys", "other").with_suffix(".pub")
    done = CliRunner().invoke(app, ["verify", str(signed), "--key", str(other)])
    assert isinstance(done.exception, BundleSigner)
    for wrong in (["--identity", "a@b.c"], ["--issuer", "https://b.c"], ["--key", "k", "--identity", "a@b.c"]):
        assert CliRunner().invoke(app, ["verify", str(signed), *wrong]).exit_code == 2


def test_a_sigstore_identity_is_looked_for_with_sigstores_own_verifier(signed, monkeypatch):
    """Offline: Sigstore's trust root cannot be loaded, and that is said; nothing passes."""
    from model_signing import verifying

    asked = {}

    def refuse(self, **options):
        asked.update(options)
        raise ConnectionError("no network")

    monkeypatch.setattr(verifying.Config, "use_sigstore_verifier", refuse)
    arguments = ["verify", str(signed), "--identity", "me@example.org", "--issuer", "https://issuer.example.org"]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, BundleSignature)
    assert "trust root" in str(done.exception)
    assert asked == {"identity": "me@example.org", "oidc_issuer": "https://issuer.example.org"}
