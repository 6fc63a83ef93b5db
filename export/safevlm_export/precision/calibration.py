"""The range of every value in a graph on real images, which is what integers are scaled by."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationMethod, create_calibrator

from safevlm_export.precision.anatomy import LAYERS
from safevlm_export.precision.silence import silent

# Value name to its range, as ONNX Runtime's quantizer takes it.
Ranges: TypeAlias = Any
# Activations are folded into the layer before them, so that their outputs are what is stored.
ACTIVATIONS = ("Clip", "Relu")


def measured_ranges(model: onnx.ModelProto, inputs: Iterable[Mapping[str, NDArray[np.generic]]]) -> Ranges:
    """Smallest and largest number of each layer's inputs and outputs, over all images.

    Args:
        model: From `anatomy.typed`.
        inputs: Inputs of the graph, as often as there are images or batches.
    """
    with silent(), tempfile.TemporaryDirectory(prefix="safevlm-") as folder:
        path = Path(folder, "graph.onnx")
        path.write_bytes(model.SerializeToString())
        calibrator = create_calibrator(
            path,
            [*LAYERS, *ACTIVATIONS],
            augmented_model_path=str(Path(folder, "augmented.onnx")),
            calibrate_method=CalibrationMethod.MinMax,
        )
        calibrator.collect_data(_Reader(iter(inputs)))
        return calibrator.compute_data()


class _Reader:
    """Hands inputs out one by one, in the way that the calibrator asks for them."""

    def __init__(self, inputs: Iterator[Mapping[str, NDArray[np.generic]]]) -> None:
        self._inputs = inputs

    def get_next(self) -> dict[str, NDArray[np.generic]] | None:
        found = next(self._inputs, None)
        return None if found is None else dict(found)
