"""NudeNet's detector: THREADS. It offers no choice of threads, so a bounded session takes the place of its own."""

from __future__ import annotations

from importlib import resources
from typing import Any

import cv2
import onnxruntime
from line_protocol import NoAnswer, number_of_threads, serve
from nudenet import NudeDetector

CPU = "CPUExecutionProvider"


def read(found: Any) -> tuple[bool, Any]:
    if not isinstance(found, list) or not all(0 < entry["score"] <= 1 for entry in found):
        raise NoAnswer(f"it returned {found!r} instead of a list of detections")
    return bool(found), [[entry["class"], float(entry["score"])] for entry in found]


def main() -> None:
    detector, threads = NudeDetector(), number_of_threads()
    if threads:
        cv2.setNumThreads(threads)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        model = resources.files("nudenet").joinpath("320n.onnx").read_bytes()
        detector.onnx_session = onnxruntime.InferenceSession(model, settings, providers=[CPU])
    serve(detector.detect, read, {"provider": detector.onnx_session.get_providers()[0]})


if __name__ == "__main__":
    main()
