"""Importing OpenVINO without the message that its import sends to its makers."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

REPORTER = "openvino_telemetry"
_NOT_THERE = object()


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
