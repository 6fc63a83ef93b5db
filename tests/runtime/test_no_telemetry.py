"""Nothing is written to the home directory, and so nothing can be sent from there."""

from __future__ import annotations

import os
import subprocess
import sys

JUDGE = """
import numpy as np
from safevlm_sdk import Runtime
with Runtime.starter() as runtime:
    assert runtime.check_frame(np.zeros((64, 64, 3), np.uint8)).error is None
"""
EXPORT = "import safevlm_export.precision.int8"


def home_after(script, tmp_path):
    """The files below the home directory once a script has run."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    for name in [name for name in environment if name.startswith("XDG_")]:
        del environment[name]
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=300)
    return sorted(path.name for path in tmp_path.rglob("*") if path.is_file())


def test_judging_leaves_nothing_in_the_home_directory(tmp_path):
    assert home_after(JUDGE, tmp_path) == []


def test_importing_the_export_leaves_nothing_in_the_home_directory(tmp_path):
    assert home_after(EXPORT, tmp_path) == []
