"""Pillow's resize as a part of an ONNX graph, bit for bit.

Pillow resizes along one side at a time. Each pixel it makes is a weighted sum of those under a filter, with weights
that are whole numbers of 2**-22, rounded and clipped to uint8. Here the weights of a side are one matrix, computed in
float64 as Pillow does, and split into bytes, so that products of uint8 with int32 sums give the same whole numbers.
ONNX's own Resize would do it in fewer nodes, but differs from Pillow by one or two grey levels in some pixels.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from safevlm_export.classifier.graph_builder import GraphBuilder

# Pillow's filters that are here, with how far they reach, in pixels of the smaller picture.
REACH = {"bilinear": 1.0, "bicubic": 2.0}
BITS = 22  # of a weight, behind the point
BYTE = 256.0
OFFSET = 128  # makes the weights' highest byte, which has a sign, a uint8
BICUBIC = -0.5


def resized(graph: GraphBuilder, image: str, size: str, resample: str) -> str:
    """The name of the resized picture, uint8 [3, h, w].

    Args:
        graph: Where the nodes go.
        image: uint8 [3, H, W].
        size: int64 [2], (h, w).
        resample: One of `REACH`.
    """
    vertical = _vertical_first(graph, image, size)
    first = graph.op("Where", vertical, _entry(graph, size, 0), _entry(graph, size, 1))
    second = graph.op("Where", vertical, _entry(graph, size, 1), _entry(graph, size, 0))
    turned = _turned_if(graph, vertical, image)
    across = _last_axis(graph, turned, first, resample)
    along = _last_axis(graph, _turned(graph, across), second, resample)
    # The sides lie in the other order than they did in `turned`.
    return _turned_if(graph, graph.op("Not", vertical), along)


def _vertical_first(graph: GraphBuilder, image: str, size: str) -> str:
    """Whether the height changes before the width, as `safevlm_sdk.resize.vertical_first` says: bool [1]."""
    lost = graph.op("Sub", graph.op("Shape", image, start=1), size)
    limit = graph.op("Max", _ints(graph, 0), graph.op("Mul", _ints(graph, 2), _entry(graph, lost, 1)))
    return graph.op("Greater", _entry(graph, lost, 0), limit)


def _last_axis(graph: GraphBuilder, image: str, new: str, resample: str) -> str:
    """Resizes the last axis of uint8 [3, A, B] to `new`, int64 [1]."""
    weights = _weights(graph, graph.op("Shape", image, start=2), new, resample)
    high = graph.op("Floor", graph.op("Div", weights, _real(graph, BYTE * BYTE)))
    rest = graph.op("Sub", weights, graph.op("Mul", high, _real(graph, BYTE * BYTE)))
    middle = graph.op("Floor", graph.op("Div", rest, _real(graph, BYTE)))
    low = graph.op("Sub", rest, graph.op("Mul", middle, _real(graph, BYTE)))
    offset = graph.constant(np.array(OFFSET, dtype=np.uint8))
    none = graph.constant(np.array(0, dtype=np.uint8))
    total = _ints(graph, 2 ** (BITS - 1))
    for part, factor in ((graph.op("Add", high, _real(graph, OFFSET)), 2**16), (middle, 2**8), (low, 1)):
        zero = offset if factor == 2**16 else none
        product = graph.op("MatMulInteger", image, graph.op("Cast", part, to=TensorProto.UINT8), none, zero)
        wide = graph.op("Cast", product, to=TensorProto.INT64)
        total = graph.op("Add", total, graph.op("Mul", wide, _ints(graph, factor)))
    # This division rounds towards zero, and not down: below zero either is clipped to 0.
    level = graph.op("Div", total, _ints(graph, 2**BITS))
    clipped = graph.op("Min", graph.op("Max", level, _ints(graph, 0)), _ints(graph, 255))
    return graph.op("Cast", clipped, to=TensorProto.UINT8)


def _weights(graph: GraphBuilder, old: str, new: str, resample: str) -> str:
    """float64 [old, new]: what each old pixel weighs in each new one, in units of 2**-22."""
    half = _real(graph, 0.5)
    scale = graph.op("Div", _as_real(graph, old), _as_real(graph, new))
    stretch = graph.op("Max", scale, _real(graph, 1.0))
    reach = graph.op("Mul", stretch, _real(graph, REACH[resample]))
    centre = graph.op("Mul", graph.op("Add", _numbers(graph, new), half), scale)
    begin = graph.op(
        "Floor", graph.op("Max", graph.op("Add", graph.op("Sub", centre, reach), half), _real(graph, 0.0))
    )
    end = graph.op("Floor", graph.op("Add", graph.op("Add", centre, reach), half))
    pixel = graph.op("Unsqueeze", _numbers(graph, old), _ints(graph, 1))
    distance = graph.op("Mul", graph.op("Add", graph.op("Sub", pixel, centre), half), graph.op("Reciprocal", stretch))
    under = graph.op("And", graph.op("GreaterOrEqual", pixel, begin), graph.op("Less", pixel, end))
    value = FILTERS[resample](graph, graph.op("Abs", distance))
    weight = graph.op("Where", under, value, _real(graph, 0.0))
    share = graph.op("Div", weight, graph.op("ReduceSum", weight, _ints(graph, 0), keepdims=1))
    exact = graph.op("Mul", share, _real(graph, 2.0**BITS))
    # Halves are rounded away from zero.
    up = graph.op("Floor", graph.op("Add", graph.op("Abs", exact), half))
    return graph.op("Mul", up, graph.op("Sign", exact))


def _bilinear(graph: GraphBuilder, x: str) -> str:
    return graph.op("Max", graph.op("Sub", _real(graph, 1.0), x), _real(graph, 0.0))


def _bicubic(graph: GraphBuilder, x: str) -> str:
    def polynomial(*coefficients: float) -> str:
        value = _real(graph, coefficients[0])
        for coefficient in coefficients[1:]:
            value = graph.op("Add", graph.op("Mul", value, x), _real(graph, coefficient))
        return value

    a = BICUBIC
    near = polynomial(a + 2, -(a + 3), 0.0, 1.0)
    far = graph.op("Mul", polynomial(1.0, -5.0, 8.0, -4.0), _real(graph, a))
    beyond = graph.op("Where", graph.op("Less", x, _real(graph, 2.0)), far, _real(graph, 0.0))
    return graph.op("Where", graph.op("Less", x, _real(graph, 1.0)), near, beyond)


FILTERS = {"bilinear": _bilinear, "bicubic": _bicubic}


def _turned(graph: GraphBuilder, image: str) -> str:
    return graph.op("Transpose", image, perm=[0, 2, 1])


def _turned_if(graph: GraphBuilder, condition: str, image: str) -> str:
    return graph.either(condition, ("Transpose", image, {"perm": [0, 2, 1]}), ("Identity", image, {}))


def _entry(graph: GraphBuilder, values: str, index: int) -> str:
    return graph.op("Gather", values, _ints(graph, index))


def _numbers(graph: GraphBuilder, count: str) -> str:
    """float64 [count]: 0, 1, 2 and so on, up to an int64 [1]."""
    zero, one = (graph.constant(np.array(value, dtype=np.int64)) for value in (0, 1))
    return _as_real(graph, graph.op("Range", zero, graph.op("Squeeze", count), one))


def _as_real(graph: GraphBuilder, values: str) -> str:
    return graph.op("Cast", values, to=TensorProto.DOUBLE)


def _real(graph: GraphBuilder, value: float) -> str:
    return graph.constant(np.array(value, dtype=np.float64))


def _ints(graph: GraphBuilder, *values: int) -> str:
    return graph.constant(np.array(values, dtype=np.int64))
