"""`safevlm doctor`: what this machine can do, and what to install, or not to install, for the rest."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from safevlm_sdk import machine
from safevlm_sdk.command.printing import console
from safevlm_sdk.platforms import Matrix, identify, load_matrix
from safevlm_sdk.version import __version__

REPORT_SCHEMA = 1
_SWAP = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'safevlm-sdk[{}]'"

EXTRAS = {
    "cpu": ("onnxruntime",),
    "gpu": ("onnxruntime-gpu",),
    "trt": ("tensorrt",),
    "trt-rtx": ("tensorrt-rtx-cu13",),
    "openvino": ("openvino",),
    "export": ("torch", "transformers", "safetensors", "onnx", "onnxscript"),
    "calibrate": ("scipy",),
    "train": ("torch", "transformers", "safetensors", "scipy"),
    "sign": ("model-signing", "pyopenssl"),
    "serve": ("starlette", "uvicorn", "httpx", "openai", "prometheus-client"),
    "audit": ("pyarrow",),
    "ray": ("ray",),
    "video": ("av",),
    "hub": ("huggingface-hub",),
    "tracing": ("opentelemetry-api",),
    "bench": ("matplotlib",),
}
# Of no use where this path of the support matrix cannot be; TensorRT-RTX is, for it builds for other machines, too.
EXTRA_PATHS = {"gpu": "ort-cuda", "trt": "tensorrt"}
EXPORTS = {
    "ONNX": ("export",),
    "TensorRT-RTX": ("export", "trt-rtx"),
    "TensorRT": ("export", "trt"),
    "OpenVINO": ("export", "openvino"),
}
ON_THE_GPU = "TensorRT"  # builds on the GPU that its engines are for
BINDINGS = "cuda-bindings"
MODULE_EXTRAS = {"tensorrt": "trt", "tensorrt_rtx": "trt-rtx", "openvino": "openvino"}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False) -> None:
    """Print what this machine can run and export to, with versions, and what to install for the rest."""
    found = report(load_matrix())
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _print(found)


def report(matrix: Matrix) -> dict[str, Any]:
    """All that is found, in plain values; `problems` is what stands in the way of using what is installed."""
    driver, engines = machine.driver(), machine.engines()
    capabilities = tuple(gpu.capability for gpu in driver.gpus)
    here = identify(platform.system(), platform.machine(), capabilities, machine.tegra_release())
    row = matrix.platform(here)
    extras = {extra: _extra(extra, matrix, here, engines.get("modules", {})) for extra in EXTRAS}
    return {
        "schema": REPORT_SCHEMA,
        "sdk": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "platform": here,
        "matrix": None if row is None else {matrix.paths[path]: state for path, state in row.cells.items()},
        "driver": {
            "cuda": driver.version,
            "gpus": [{"name": gpu.name, "compute_capability": gpu.capability} for gpu in driver.gpus],
            "problem": driver.problem,
        },
        "providers": engines.get("providers", {}),
        "engines": engines.get("modules", {}),
        "extras": extras,
        "exports": [
            target
            for target, needed in EXPORTS.items()
            if all(extras[extra]["installed"] for extra in needed) and (driver.gpus or target != ON_THE_GPU)
        ],
        "problems": [*_problems(extras, engines), *_without_bindings(engines, bool(driver.gpus))],
    }


def _extra(extra: str, matrix: Matrix, here: str | None, modules: dict[str, Any]) -> dict[str, Any]:
    packages: dict[str, str | None] = {package: _version(package) for package in EXTRAS[extra]}
    for module, of in MODULE_EXTRAS.items():
        if of == extra and modules.get(module, {}).get("version"):  # a system's own needs no distribution
            packages = {module: modules[module]["version"]}
    usable = all(packages.values())
    refusals = [matrix.refusal(package, here) for package in EXTRAS[extra]]
    refused = next((f"{one.package}: {one.why}; use {one.instead}" for one in refusals if one is not None), None)
    row = matrix.platform(here)
    if refused is None and row is not None and extra in EXTRA_PATHS and row.cells[EXTRA_PATHS[extra]] == "no":
        refused = f"{EXTRAS[extra][0]}: there is no GPU that it could use"
    install = None if usable or refused else _install(extra)
    return {"installed": usable, "packages": packages, "install": install, "refused": refused}


def _problems(extras: dict[str, Any], engines: dict[str, Any]) -> list[str]:
    problems = [engines["problem"]] if "problem" in engines else []
    if extras["cpu"]["installed"] and extras["gpu"]["installed"]:
        problems.append("onnxruntime and onnxruntime-gpu overwrite each other; run: " + _SWAP.format("gpu"))
    if not engines.get("providers") and "problem" not in engines:
        problems.append("ONNX Runtime is not installed: no bundle can be loaded; run: " + _install("cpu"))
    problems += (f"{name} {problem}" for name, problem in engines.get("providers", {}).items() if problem)
    problems += (
        f"{name} {found['problem']}" for name, found in engines.get("modules", {}).items() if found["problem"]
    )
    problems += (
        f"do not use {found['refused']}"
        for found in extras.values()
        if found["refused"] and all(_version(package) for package in found["packages"])
    )
    return problems


def _without_bindings(engines: dict[str, Any], gpu: bool) -> list[str]:
    """What keeps a TensorRT of the system, which pip knows nothing of, from running engines."""
    here = [name for name, extra in MODULE_EXTRAS.items() if extra in ("trt", "trt-rtx") and name in _loaded(engines)]
    if not gpu or not here or _version(BINDINGS):
        return []
    return [f"{BINDINGS} is not installed: no engine can run; run: pip install {BINDINGS}"]


def _loaded(engines: dict[str, Any]) -> list[str]:
    return [name for name, found in engines.get("modules", {}).items() if found["version"]]


def _install(extra: str) -> str:
    if extra == "gpu" and _version("onnxruntime"):
        return f"instead of cpu: {_SWAP.format('gpu')}"
    if extra == "cpu" and _version("onnxruntime-gpu"):
        return f"instead of gpu: {_SWAP.format('cpu')}"
    return f"pip install 'safevlm-sdk[{extra}]'"


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _print(found: dict[str, Any]) -> None:
    shown = console()
    shown.print(f"safevlm-sdk {found['sdk']}, Python {found['python']}, {found['system']}")
    driver = found["driver"]
    gpus = ", ".join(f"{gpu['name']} ({gpu['compute_capability']})" for gpu in driver["gpus"])
    cuda = "" if driver["cuda"] is None else f"driver for CUDA {driver['cuda']}; "
    shown.print(f"GPU: {cuda}{gpus or driver['problem'] or 'none'}", markup=False)
    table = Table("extra", "installed", "packages", box=None, pad_edge=False)
    for extra, state in found["extras"].items():
        listed = ", ".join(f"{package} {version or 'missing'}" for package, version in state["packages"].items())
        said = f"do not install {state['refused']}" if state["refused"] else state["install"]
        table.add_row(extra, Text("yes" if state["installed"] else f"no; {said}"), listed)
    shown.print(table)
    usable = [name for name, problem in found["providers"].items() if problem is None]
    shown.print(f"can export to: {', '.join(found['exports']) or 'nothing'}")
    shown.print(f"execution providers that make a session: {', '.join(usable) or 'none'}", markup=False)
    if found["matrix"] is None:
        shown.print("this kind of machine is not in the support matrix (docs/platforms.md)")
    else:
        cells = "; ".join(f"{path}: {state}" for path, state in found["matrix"].items())
        shown.print(f"tried on machines like this one ({found['platform']}): {cells}", markup=False)
    for problem in found["problems"]:
        shown.print(f"problem: {problem}", markup=False)
