"""A bundle is written as a whole, and only ever replaces a bundle."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safevlm_runtime.bundle.reader import read_bundle
from safevlm_sdk.bundle_writer import BundleParts, is_bundle, write_bundle
from safevlm_sdk.errors import ExportError

Cases = Callable[[str], Any]
HERE = Path(__file__).parent


def parts_of(bundle: Path) -> BundleParts:
    read = read_bundle(bundle)
    graphs = {graph.file: read.graphs[graph.id] for graph in read.manifest.graphs}
    policy = (bundle / "policy.toml").read_bytes()
    return BundleParts(manifest=read.manifest, graphs=graphs, golden=read.golden, policy=policy, card=read.card)


def test_a_bundle_that_is_read_and_written_is_the_same(case_of: Cases, tmp_path: Path) -> None:
    bundle = case_of("vit-edge").bundle
    written = write_bundle(tmp_path / "copy", parts_of(bundle))
    assert written == read_bundle(bundle).manifest == read_bundle(tmp_path / "copy").manifest


def test_killed_at_any_step_the_old_or_the_new_bundle_is_there(case_of: Cases, tmp_path: Path) -> None:
    root = HERE.parents[1]
    path = os.pathsep.join(str(root / part) for part in (".", "runtime", "export", "training"))
    command = [
        sys.executable,
        str(HERE / "bundle_faults.py"),
        str(HERE.parent / "core"),
        str(case_of("vit-edge").bundle),
    ]
    done = subprocess.run(
        [*command, str(tmp_path)], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) >= 40


@pytest.mark.parametrize("extra", ["holiday.jpg", "graphs/notes.txt", "link"])
def test_a_bundle_with_something_else_in_it_is_kept(extra: str, case_of: Cases, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(case_of("vit-edge").bundle, out)
    assert is_bundle(out)
    if extra == "link":
        (out / extra).symlink_to(tmp_path)
    else:
        (out / extra).write_text("mine")
    with pytest.raises(ExportError, match="holds other files"):
        write_bundle(out, parts_of(case_of("vit-edge").bundle))
    assert (out / extra).exists()


def test_a_bundle_that_fails_its_check_is_not_put_in_place(case_of: Cases, tmp_path: Path) -> None:
    def refuse(folder: Path) -> None:
        assert read_bundle(folder).manifest.name == "vit-edge"
        raise ExportError("no")

    with pytest.raises(ExportError, match="no"):
        write_bundle(tmp_path / "out", parts_of(case_of("vit-edge").bundle), check=refuse)
    assert os.listdir(tmp_path) == []


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = "import sys, safevlm_export; print({'torch', 'onnx', 'onnxruntime', 'numpy'} & set(sys.modules))"
    path = str(HERE.parents[1] / "export")
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.stdout.strip() == "set()", done.stderr


def test_public_names() -> None:
    import safevlm_export

    assert all(getattr(safevlm_export, name) for name in safevlm_export.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        safevlm_export.nothing  # noqa: B018
