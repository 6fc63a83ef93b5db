"""The public names, and that importing them is cheap."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import safevlm_sdk

HEAVY = ("torch", "transformers", "onnx", "onnxruntime", "tensorrt", "numpy", "PIL", "msgspec", "typer", "rich")


def test_all_names_resolve_and_are_declared_for_type_checkers():
    assert sorted(safevlm_sdk.__all__) == safevlm_sdk.__all__ == sorted(safevlm_sdk._HOMES)
    for name in safevlm_sdk.__all__:
        assert getattr(safevlm_sdk, name) is not None
    assert dir(safevlm_sdk) == safevlm_sdk.__all__


def test_no_other_name_resolves():
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = safevlm_sdk.nothing_like_it


def test_the_version_is_the_distributions():
    assert safevlm_sdk.__version__ == version("safevlm-sdk")


def test_importing_it_loads_nothing_heavy():
    code = f"import sys, safevlm_sdk; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
