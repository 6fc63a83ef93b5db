"""OpenVINO on a ViT's ONNX file: THREADS MODEL [PRECISION].

It has no image files of its own: Pillow decodes and scales to 224 pixels, as the model's own processor does. Without
PRECISION, OpenVINO chooses: bfloat16 where the processor has it.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import openvino
from line_protocol import NoAnswer, number_of_threads, serve
from PIL import Image

SIDE = 224


def pixels(path: str) -> np.ndarray:
    """float32 [1, 3, 224, 224] in -1 to 1."""
    with Image.open(path) as picture:
        scaled = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    values = np.asarray(scaled, dtype=np.float32) / np.float32(127.5) - np.float32(1)
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None])


def read(logits: np.ndarray) -> tuple[None, Any]:
    if not np.isfinite(logits).all():
        raise NoAnswer("its logits hold NaN or infinity")
    return None, logits.tolist()


def main() -> None:
    threads, precision = number_of_threads(), (sys.argv[3:] or [None])[0]
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    if precision:
        settings["INFERENCE_PRECISION_HINT"] = precision
    model = openvino.Core().compile_model(sys.argv[2], "CPU", settings)
    request = model.create_infer_request()
    in_use = model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    facts = {"provider": f"CPU, {in_use}, threads: {model.get_property('INFERENCE_NUM_THREADS')}"}
    serve(lambda path: request.infer([pixels(path)])[0].copy(), read, facts)


if __name__ == "__main__":
    main()
