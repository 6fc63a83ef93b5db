"""`optimum-cli export safevlm`, with its signature and its model repository, on a real checkpoint."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from optimum.commands.optimum_cli import main

from safevlm_runtime.bundle.reader import read_bundle
from safevlm_runtime.bundle.signature import KeySigner


@pytest.fixture
def key(tmp_path: Path) -> Path:
    made = ec.generate_private_key(ec.SECP256R1())
    plain = serialization.NoEncryption()
    private = made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "key.pem").write_bytes(private)
    (tmp_path / "key.pub").write_bytes(made.public_key().public_bytes(serialization.Encoding.PEM, spki))
    return tmp_path / "key.pem"


def test_it_writes_the_same_bundle_as_safevlm_export_signed_and_ready_to_serve(
    case_of: Callable[[str], Any],
    tmp_path: Path,
    key: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    case = case_of("vit-edge")
    arguments = ["optimum-cli", "export", "safevlm", "-m", case.checkpoint, tmp_path / "bundle"]
    arguments += ["--license", "Apache-2.0", "--sign", key, "--triton", tmp_path / "models"]
    monkeypatch.setattr(sys, "argv", [str(argument) for argument in arguments])
    main()
    bundle = read_bundle(tmp_path / "bundle", signer=KeySigner(public_key=key.with_suffix(".pub")))
    assert bundle.verified
    assert bundle.manifest == case.report.manifest
    printed = capsys.readouterr().out
    assert f"signed {bundle.manifest.digest}" in printed
    models = {path.name for path in (tmp_path / "models").iterdir()}
    assert models == {"vit-edge-gate-fp32", "vit-edge-safety_head-fp32"}


def test_an_error_is_one_line(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "optimum-cli"), "export", "safevlm", "-m", str(tmp_path / "absent")]
    done = subprocess.run([*command, str(tmp_path / "bundle")], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: checkpoint_invalid: ")
    assert done.stderr.count("\n") == 1


def test_optimum_starts_without_loading_the_sdk() -> None:
    code = (
        "import sys\nfrom optimum.commands.optimum_cli import main\nsys.argv = ['optimum-cli', 'export', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([m for m in sys.modules if m.split('.')[0].startswith(('safevlm', 'torch', 'transformers', 'onnx'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Export a SafeVLM checkpoint" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
