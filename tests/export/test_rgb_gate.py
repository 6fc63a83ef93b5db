"""The preprocessing as a graph: what Pillow does, bit for bit."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safevlm_export.conformance.images import SPEC, tiny_rgb_gate
from safevlm_export.rgb_graph import preprocessing_graph
from safevlm_runtime.bundle.onnx_guard import check_onnx
from safevlm_sdk.errors import ExportError
from safevlm_sdk.preprocess import Preprocessing, preprocess

CLIP = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
SPECS: dict[str, dict[str, Any]] = {
    "clip": {"resize": "shortest_edge", "height": 48, "width": 48, "shortest_edge": 48, "resample": "bicubic"},
    "crop": {"resize": "shortest_edge", "height": 40, "width": 56, "shortest_edge": 61, "resample": "bilinear"},
    "square": {"resize": "exact", "height": 64, "width": 48, "shortest_edge": None, "resample": "bicubic"},
    "starter": {"resize": "exact", "height": 56, "width": 56, "shortest_edge": None, "resample": "bilinear"},
}
# Enlarged and shrunk, long and narrow, of the tensor's own size, and where rows go first.
SHAPES = ((48, 48), (64, 48), (1, 1), (7, 300), (300, 7), (500, 90), (90, 500), (131, 1), (61, 61), (224, 331))


def spec_of(name: str) -> Preprocessing:
    return Preprocessing(**SPECS[name], **CLIP, rescale_factor=1 / 255)


@cache
def session_of(name: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(preprocessing_graph(spec_of(name), 18).SerializeToString(), options)


def in_graph(name: str, pixels: np.ndarray) -> np.ndarray:
    (found,) = session_of(name).run(None, {"rgb": pixels})
    return found[0]


def picture(kind: int, height: int, width: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == 0:
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if kind == 1:
        return (rng.random((height, width, 3)) < 0.5).astype(np.uint8) * 255
    rows, columns = np.mgrid[:height, :width]
    waves = [127.5 + 127.5 * np.sin(rows / 5 + columns / (3 + shift)) for shift in range(3)]
    return np.stack(waves, axis=-1).astype(np.uint8)


@pytest.mark.parametrize("kind", [0, 1, 2])
@pytest.mark.parametrize("name", SPECS)
def test_it_is_what_pillow_does(name: str, kind: int) -> None:
    for height, width in SHAPES:
        pixels = picture(kind, height, width, seed=height)
        assert np.array_equal(in_graph(name, pixels), preprocess(pixels, spec_of(name))), (height, width)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(sorted(SPECS)),
    kind=st.integers(0, 2),
    height=st.integers(1, 200),
    width=st.integers(1, 200),
    seed=st.integers(0, 2**32 - 1),
)
def test_it_is_what_pillow_does_at_any_size(name: str, kind: int, height: int, width: int, seed: int) -> None:
    pixels = picture(kind, height, width, seed)
    assert np.array_equal(in_graph(name, pixels), preprocess(pixels, spec_of(name)))


@pytest.mark.parametrize("resample", ["nearest", "box", "hamming", "lanczos"])
def test_filters_that_are_not_there_are_refused(resample: str) -> None:
    spec = Preprocessing(**{**SPECS["square"], "resample": resample}, **CLIP, rescale_factor=1 / 255)
    with pytest.raises(ExportError, match=f"resizes with {resample}; only bilinear and bicubic"):
        preprocessing_graph(spec, 18)


def test_a_gate_of_an_old_opset_is_refused() -> None:
    with pytest.raises(ExportError, match="opset 13"):
        preprocessing_graph(spec_of("clip"), 13)


def test_a_gate_with_it_gives_what_the_gate_gives() -> None:
    graph = tiny_rgb_gate()
    check_onnx(graph, where="rgb_gate")
    session = onnxruntime.InferenceSession(graph)
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape) == ("rgb", "tensor(uint8)", ["height", "width", 3])
    small, large = (picture(2, *shape, seed=0) for shape in ((36, 36), (240, 200)))
    assert SPEC.shortest_edge == 36
    outputs = [session.run(["type_logits"], {"rgb": pixels})[0] for pixels in (small, large)]
    assert [values.shape for values in outputs] == [(1, 4), (1, 4)]
    assert not np.allclose(*outputs, atol=1e-2)
