"""Importing ONNX Runtime, OpenVINO and Ray without the messages that they send to their makers."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

ORT_SWITCH = "ORT_DISABLE_TELEMETRY"
RAY_SWITCH = "RAY_USAGE_STATS_ENABLED"
REPORTER = "openvino_telemetry"
_NOT_THERE = object()


def keep_onnxruntime_quiet() -> None:
    """Sets the switch that ONNX Runtime reads when it is imported, unless the operator has set it.

    Otherwise its builds from 1.29 on make an identifier and a list of events in the home directory, to be sent.
    Where the process imported it before, that has happened already.
    """
    os.environ.setdefault(ORT_SWITCH, "1")


def import_onnxruntime() -> Any:
    """The module `onnxruntime`, imported with its reporter switched off.

    Raises:
        ImportError: It is not installed.
        Exception: It is installed and does not load.
    """
    keep_onnxruntime_quiet()
    return import_module("onnxruntime")


def import_openvino() -> Any:
    """The module `openvino`, imported as if its reporter were not installed, which it has a way for.

    Otherwise the import alone makes an identifier in the home directory and sends it, without asking, over the
    network. Where the process imported OpenVINO before, that has happened already, and nothing is changed.

    Raises:
        ModuleNotFoundError: OpenVINO is not installed.
        Exception: It is installed and does not load.
    """
    before: Any = sys.modules.get(REPORTER, _NOT_THERE)
    sys.modules[REPORTER] = None  # type: ignore[assignment]  # the import system's way to say: not installed
    try:
        return import_module("openvino")
    finally:
        if before is _NOT_THERE:
            sys.modules.pop(REPORTER, None)  # another thread may have been here
        else:
            sys.modules[REPORTER] = before


def import_ray() -> Any:
    """The module `ray`, imported with its reporter switched off, unless the operator has set the switch.

    Otherwise nightly builds of Ray report to their makers whatever is started by `ray.init`; releases do not. A
    cluster that is joined does what whoever started it has chosen.

    Raises:
        ModuleNotFoundError: Ray is not installed.
    """
    os.environ.setdefault(RAY_SWITCH, "0")
    return import_module("ray")
