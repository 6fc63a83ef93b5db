"""What `safevlm doctor` finds, on machines that are described and on libraries that fail."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import msgspec
import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

from safevlm_sdk import machine
from safevlm_sdk.command import doctor
from safevlm_sdk.command.app import app
from safevlm_sdk.machine import Driver, Gpu
from safevlm_sdk.platforms import Platform, identify, load_matrix, markdown
from safevlm_sdk.strict import tomllib

ROOT = Path(__file__).resolve().parents[2]
ORIN = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n"
THOR = "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64\n"


def fake_library(folder: Path, monkeypatch, **modules: str) -> None:
    for name, code in modules.items():
        (folder / f"{name}.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def described(monkeypatch, *, processor="aarch64", gpus=(), release=None, engines=None, versions=None) -> None:
    """Makes the doctor see this machine."""
    monkeypatch.setattr(doctor.platform, "system", lambda: "Linux")
    monkeypatch.setattr(doctor.platform, "machine", lambda: processor)
    monkeypatch.setattr(machine, "driver", lambda: Driver(version="13.0", gpus=tuple(gpus), problem=None))
    monkeypatch.setattr(machine, "tegra_release", lambda: release)
    monkeypatch.setattr(machine, "engines", lambda: engines or {"providers": {"CPUExecutionProvider": None}})
    monkeypatch.setattr(doctor, "_version", (versions or {}).get)


def test_the_page_is_made_of_the_data():
    assert (ROOT / "docs" / "platforms.md").read_text(encoding="utf-8") == markdown(load_matrix())


def test_a_matrix_with_a_missing_cell_or_an_unknown_platform_is_refused():
    plain = msgspec.to_builtins(load_matrix())
    for edit in (lambda m: m["platforms"][0]["cells"].popitem(), lambda m: m["refused"][0].update(platforms=["x"])):
        changed = json.loads(json.dumps(plain))
        edit(changed)
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(changed, type(load_matrix()))
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"id": "x", "name": "x", "note": "", "cells": {"a": "works"}}, Platform)


@pytest.mark.parametrize(
    ("system", "processor", "capabilities", "release", "expected"),
    [
        ("Linux", "x86_64", (), None, "x86-64-cpu"),
        ("Linux", "AMD64", ("8.9",), None, "x86-64-rtx"),
        ("Linux", "x86_64", ("9.0", "8.9"), None, "x86-64-data-centre"),
        ("Linux", "aarch64", ("8.7",), ORIN, "jetpack-6"),
        ("Linux", "aarch64", ("8.7",), ORIN.replace("R36", "R39"), "jetpack-7"),
        ("Linux", "aarch64", ("11.0",), THOR, "jetson-thor"),
        ("Linux", "aarch64", ("8.7",), ORIN.replace("R36", "R35"), None),
        ("Linux", "aarch64", (), "not what is expected", None),
        ("Linux", "aarch64", (), None, "arm64-cpu"),
        ("Linux", "aarch64", ("9.0",), None, None),
        ("Linux", "riscv64", (), None, None),
        ("Darwin", "arm64", (), None, "macos"),
        ("Windows", "AMD64", ("8.9",), None, "windows"),
    ],
)
def test_machines_are_told_apart(system, processor, capabilities, release, expected):
    assert identify(system, processor, capabilities, release) == expected
    assert expected is None or load_matrix().platform(expected) is not None


def test_the_probe_graph_is_an_identity():
    value = helper.make_tensor_value_info
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([node], "g", [value("x", TensorProto.FLOAT, [1])], [value("y", TensorProto.FLOAT, [1])])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    assert onnx.load_from_string(machine.IDENTITY) == made


def test_every_extra_that_brings_packages_of_its_own_is_looked_for():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    assert set(doctor.EXTRAS) == set(extras) - {"all"}
    for extra, packages in doctor.EXTRAS.items():
        named = " ".join([*extras[extra], *(extras["export"] if extra == "train" else ())])
        assert [package for package in packages if f"{package}>" not in named] == [], extra


def test_this_machine_can_make_a_cpu_session():
    assert machine.probe()["providers"]["CPUExecutionProvider"] is None


def test_a_provider_that_is_listed_and_not_used_and_an_engine_that_does_not_load_are_said(tmp_path, monkeypatch):
    runtime = (
        "class InferenceSession:\n"
        "    def __init__(self, data, providers, enable_fallback):\n"
        "        if providers == ['BrokenExecutionProvider']: raise RuntimeError('no device\\nand more')\n"
        "    def get_providers(self): return ['CPUExecutionProvider']\n"
        "def get_available_providers():\n"
        "    return ['CUDAExecutionProvider', 'BrokenExecutionProvider', 'CPUExecutionProvider']\n"
    )
    broken = "raise OSError('libnvinfer.so.11: cannot open shared object file')"
    fake_library(tmp_path, monkeypatch, onnxruntime=runtime, tensorrt=broken, openvino="__version__ = '2026.4'")
    found = machine.engines()
    assert found["providers"] == {
        "CUDAExecutionProvider": "is listed, but a session is on CPUExecutionProvider instead",
        "BrokenExecutionProvider": "makes no session: RuntimeError: no device",
        "CPUExecutionProvider": None,
    }
    assert found["modules"]["tensorrt"]["problem"].startswith("does not load: OSError: libnvinfer.so.11")
    assert found["modules"]["openvino"] == {"version": "2026.4", "problem": None}


def test_a_library_that_ends_the_process_does_not_end_the_doctor(tmp_path, monkeypatch):
    fake_library(tmp_path, monkeypatch, tensorrt="import os\nos._exit(7)")
    assert machine.engines() == {"problem": "looking at the engines ended with exit code 7"}


def test_a_library_that_prints_does_not_disturb(tmp_path, monkeypatch):
    fake_library(tmp_path, monkeypatch, tensorrt="__version__ = '11.4'\nprint('hello')")
    assert machine.engines()["modules"]["tensorrt"] == {"version": "11.4", "problem": None}


def test_no_driver_and_a_driver_with_a_gpu(monkeypatch):
    def absent(name):
        raise OSError(name)

    monkeypatch.setattr(machine.ctypes, "CDLL", absent)
    assert machine.driver() == Driver(version=None, gpus=(), problem="no NVIDIA driver (libcuda) is here")

    def give(value):
        def call(pointer, *_):
            pointer._obj.value = value
            return 0

        return call

    library = SimpleNamespace(
        cuDriverGetVersion=give(13010),
        cuInit=lambda flags: 0,
        cuDeviceGetCount=give(1),
        cuDeviceGet=give(0),
        cuDeviceGetName=lambda buffer, size, device: setattr(buffer, "value", b"Orin"),
        cuDeviceGetAttribute=lambda pointer, which, device: setattr(pointer._obj, "value", {75: 8, 76: 7}[which]),
    )
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: library)
    assert machine.driver() == Driver(version="13.1", gpus=(Gpu(name="Orin", capability="8.7"),), problem=None)
    library.cuInit = lambda flags: 100
    assert machine.driver().problem == "the driver shows no GPU (cuInit gave 100)"


def test_wheels_that_fail_on_a_jetson_are_refused(monkeypatch):
    orin = Gpu(name="Orin", capability="8.7")
    described(monkeypatch, gpus=[orin], release=ORIN.replace("R36", "R39"), versions={"onnxruntime-gpu": "1.31.1"})
    found = doctor.report(load_matrix())
    assert found["platform"] == "jetpack-7"
    for extra in ("gpu", "trt", "trt-rtx"):
        assert found["extras"][extra]["install"] is None
        assert "use " in found["extras"][extra]["refused"]
    assert [problem for problem in found["problems"] if "installs and then fails" in problem]


def test_the_systems_own_tensorrt_counts(monkeypatch):
    engines = {
        "providers": {"CPUExecutionProvider": None},
        "modules": {"tensorrt": {"version": "10.16.0", "problem": None}},
    }
    described(monkeypatch, gpus=[Gpu(name="Thor", capability="11.0")], release=THOR, engines=engines)
    found = doctor.report(load_matrix())
    assert found["platform"] == "jetson-thor"
    assert found["extras"]["trt"]["installed"]
    assert not [problem for problem in found["problems"] if "tensorrt" in problem]


def test_a_tensorrt_without_the_drivers_interface_cannot_run_engines(monkeypatch):
    engines = {
        "providers": {"CPUExecutionProvider": None},
        "modules": {"tensorrt": {"version": "10.16.0", "problem": None}},
    }
    thor = Gpu(name="Thor", capability="11.0")
    described(monkeypatch, gpus=[thor], release=THOR, engines=engines)
    assert doctor.report(load_matrix())["problems"][-1].endswith("pip install cuda-bindings")
    described(monkeypatch, gpus=[thor], release=THOR, engines=engines, versions={"cuda-bindings": "13.5"})
    assert doctor.report(load_matrix())["problems"] == []


def test_what_can_be_exported_to_depends_on_extras_and_the_gpu(monkeypatch):
    versions = dict.fromkeys(("torch", "transformers", "safetensors", "onnx", "onnxscript"), "1")
    described(monkeypatch, processor="x86_64", versions=versions)
    assert doctor.report(load_matrix())["exports"] == ["ONNX"]
    versions |= {"tensorrt": "11.4", "tensorrt-rtx-cu13": "1.7"}
    described(monkeypatch, processor="x86_64", versions=versions)
    assert doctor.report(load_matrix())["exports"] == ["ONNX", "TensorRT-RTX"]
    described(monkeypatch, processor="x86_64", gpus=[Gpu(name="L4", capability="8.9")], versions=versions)
    assert doctor.report(load_matrix())["exports"] == ["ONNX", "TensorRT-RTX", "TensorRT"]


def test_two_runtimes_and_none_are_problems(monkeypatch):
    described(monkeypatch, processor="x86_64", versions={"onnxruntime": "1", "onnxruntime-gpu": "1"})
    assert "overwrite each other" in doctor.report(load_matrix())["problems"][0]
    described(monkeypatch, processor="x86_64", engines={"providers": {}})
    assert "no bundle can be loaded" in doctor.report(load_matrix())["problems"][0]


def test_json_and_text_say_the_same(monkeypatch):
    engines = {"providers": {"CPUExecutionProvider": None, "CUDAExecutionProvider": "makes no session: [x]"}}
    described(monkeypatch, processor="riscv64", engines=engines)
    done = CliRunner().invoke(app, ["doctor", "--json"])
    found = json.loads(done.output)
    assert found["schema"] == 1
    assert found["platform"] is None
    assert found["problems"] == ["CUDAExecutionProvider makes no session: [x]"]
    text = CliRunner().invoke(app, ["doctor"]).output
    assert "problem: CUDAExecutionProvider makes no session: [x]" in text
    assert "not in the support matrix" in text
    assert "execution providers that make a session: CPUExecutionProvider" in text
