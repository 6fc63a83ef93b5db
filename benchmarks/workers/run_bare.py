"""A bundle's own graph without the runtime around it: THREADS BUNDLE.

Pillow decodes, the bundle's preprocessing follows, then `InferenceSession.run`. What `check` takes longer is the
price of its checks.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import onnxruntime
from line_protocol import NoAnswer, number_of_threads, serve
from PIL import Image
from run_gate import bundle_path

from safevlm_runtime.bundle.contract import choose_graph
from safevlm_runtime.bundle.reader import read_bundle
from safevlm_sdk.manifest import DECISION_OUTPUTS, GATE
from safevlm_sdk.preprocess import preprocess

CPU = "CPUExecutionProvider"


def main() -> None:
    bundle = read_bundle(bundle_path(sys.argv[2]))
    graph = choose_graph(bundle.manifest, GATE, CPU, None)
    if graph is None:
        raise SystemExit(f"{sys.argv[2]}: no gate graph for ONNX Runtime; export it with --onnx")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = number_of_threads() or 0
    session = onnxruntime.InferenceSession(bundle.graphs[graph.id], settings, providers=[CPU])
    wanted = [node.name for node in session.get_outputs() if node.name in (*DECISION_OUTPUTS, "attention")]

    def answer(path: str) -> list[Any]:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        outputs: list[Any] = session.run(
            wanted, {"pixel_values": preprocess(pixels, bundle.manifest.preprocessing)[None]}
        )
        return outputs

    def read(outputs: list[Any]) -> tuple[None, Any]:
        if not all(np.isfinite(output).all() for output in outputs):
            raise NoAnswer("its outputs hold NaN or infinity")
        return None, [output.tolist() for output in outputs]  # deciding is the runtime's part

    serve(answer, read, {"provider": session.get_providers()[0], "bundle": bundle.manifest.digest})


if __name__ == "__main__":
    main()
