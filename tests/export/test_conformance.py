"""The vectors for other languages: what is committed is what the code says, and the C++ example agrees."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from safevlm_export.conformance.__main__ import main
from safevlm_export.conformance.files import conformance_files

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "docs" / "conformance"
CPP = ROOT / "examples" / "cpp"
COMPILE = ["c++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers"]


@pytest.fixture(scope="module")
def made() -> dict[str, bytes]:
    return conformance_files()


def flat(value: Any, where: str = "") -> dict[str, Any]:
    """Every leaf of JSON by its path."""
    if isinstance(value, dict):
        return {path: leaf for key, one in value.items() for path, leaf in flat(one, f"{where}/{key}").items()}
    if isinstance(value, list):
        return {path: leaf for key, one in enumerate(value) for path, leaf in flat(one, f"{where}/{key}").items()}
    return {where: value}


def words(data: bytes) -> list[str | float]:
    """Words, and numbers as numbers."""
    found: list[str | float] = []
    for word in data.decode().split():
        try:
            found.append(float(word))
        except ValueError:
            found.append(word)
    return found


@pytest.mark.parametrize(("name", "tolerance"), [("decisions", 1e-12), ("images", 1e-4)])
def test_the_committed_vectors_are_what_the_code_says(made: dict[str, bytes], name: str, tolerance: float) -> None:
    ours, theirs = (
        flat(json.loads(one)) for one in (made[f"{name}.json"], (COMMITTED / f"{name}.json").read_bytes())
    )
    assert ours.keys() == theirs.keys()
    for path, value in ours.items():
        assert theirs[path] == (pytest.approx(value, abs=tolerance) if isinstance(value, float) else value), path
    ours, theirs = words(made[f"{name}.txt"]), words((COMMITTED / f"{name}.txt").read_bytes())
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert other == (pytest.approx(mine, abs=tolerance, nan_ok=True) if isinstance(mine, float) else mine)


def test_the_committed_graph_is_what_the_code_makes(made: dict[str, bytes]) -> None:
    assert made.keys() == {path.name for path in COMMITTED.iterdir()}
    assert (COMMITTED / "rgb_gate.onnx").read_bytes() == made["rgb_gate.onnx"]


def test_the_committed_graph_gives_the_committed_outputs() -> None:
    session = onnxruntime.InferenceSession((COMMITTED / "rgb_gate.onnx").read_bytes())
    images = json.loads((COMMITTED / "images.json").read_bytes())["images"]
    assert len(images) == 7
    for image in images:
        pixels = np.frombuffer(bytes.fromhex(image["rgb"]), np.uint8).reshape(image["height"], image["width"], 3)
        for name in ("type_logits", "level_logprobs"):
            (found,) = session.run([name], {"rgb": pixels})
            np.testing.assert_allclose(found[0], image[name], atol=1e-4)


def test_edge_cases_are_there() -> None:
    cases = {case["name"]: case for case in json.loads((COMMITTED / "decisions.json").read_bytes())["cases"]}
    equal = cases["two equal risks at .499 under thresholds of .5"]
    assert all(0.498 < value < 0.5 for value in equal["expected"]["categories"].values())
    assert equal["expected"]["action"] == "block"
    assert cases["NaN among the logits"]["expected"]["error"] == "output_not_finite"
    assert cases["on_error = caution"]["expected"]["action"] == "caution"
    assert {case["expected"]["action"] for case in cases.values()} == {"allow", "caution", "block"}
    assert {case["rule"]["activation"] for case in cases.values()} == {"softmax", "sigmoid"}


def test_the_decision_in_cpp_passes_the_vectors(tmp_path: Path) -> None:
    program, damaged = tmp_path / "check", tmp_path / "damaged.txt"
    subprocess.run([*COMPILE, "-o", str(program), str(CPP / "check_decisions.cpp")], check=True)
    done = subprocess.run([str(program), str(COMMITTED / "decisions.txt")], capture_output=True, text=True)
    count = len(json.loads((COMMITTED / "decisions.json").read_bytes())["cases"])
    assert (done.returncode, done.stdout) == (0, f"{count} passed, 0 failed\n")
    text = (COMMITTED / "decisions.txt").read_text()
    damaged.write_text(text.replace("threshold privacy 0.5", "threshold privacy 0.95"))
    assert subprocess.run([str(program), str(damaged)], capture_output=True).returncode == 1


def test_the_command_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(tmp_path / "new")])
    assert {path.name for path in (tmp_path / "new").iterdir()} == {path.name for path in COMMITTED.iterdir()}
    assert "decisions.json" in capsys.readouterr().out
