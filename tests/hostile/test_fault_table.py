"""The table of faults: whatever fails, on whatever way in, nothing goes on and the failure has a name."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


def loaded(name):
    """A module beside this one, as the script imports it."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


shared, table = loaded("fault_world"), loaded("fault_cells")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with contextlib.closing(shared.World(tmp_path_factory.mktemp("faults"))) as made:
        yield made


@pytest.mark.parametrize(("fault", "way"), table.CELLS)
def test_a_fault_on_a_way_in(world, fault, way):
    table.run_cell(world, fault, way)


@pytest.mark.slow
def test_the_same_without_asserts():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-O", str(FOLDER / "fault_cells.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    cells = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(cell["fault"], cell["way"]) for cell in cells] == table.CELLS, done.stderr[-3000:]
    assert not any(cell["asserts"] for cell in cells)
    assert [cell for cell in cells if cell["problem"]] == []
    assert done.returncode == 0


def test_a_cell_can_break(world, monkeypatch):
    open_gate = table.Fault(error="output_not_finite", lie=lambda outputs: outputs)
    monkeypatch.setitem(table.FAULTS, "nothing", open_gate)
    for way in table.WAYS:
        with pytest.raises(shared.CellBroken, match="allowed"):
            table.run_cell(world, "nothing", way)
