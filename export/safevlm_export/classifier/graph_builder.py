"""Adding nodes to an ONNX graph in operators whose form is the same in every operator set from 9 on."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

MIN_OPSET = 9
# From this operator set on, a reduction takes its axes as an input.
AXES_AS_INPUT = {"ReduceMax": 18, "ReduceLogSumExp": 18}


class GraphBuilder:
    """Nodes and constants to be added; every name begins with `prefix`.

    Args:
        opset: The graph's operator set.
        prefix: Of all names.
    """

    def __init__(self, opset: int, prefix: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._opset, self._prefix = opset, prefix

    def constant(self, values: NDArray[np.generic]) -> str:
        """The name of a constant."""
        name = f"{self._prefix}/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def number(self, value: float) -> str:
        """The name of a float32 scalar."""
        return self.constant(np.array(value, dtype=np.float32))

    def op(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Adds a node with one output, and gives the output's name."""
        name = output or f"{self._prefix}/{kind}_{len(self.nodes)}"
        node = f"{self._prefix}/node_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=node, **attributes))
        return name

    def either(
        self, condition: str, then: tuple[str, str, dict[str, Any]], other: tuple[str, str, dict[str, Any]]
    ) -> str:
        """One of two operators (kind, input, attributes), as a bool [1] says."""
        branches = []
        for number, (kind, x, attributes) in enumerate((then, other)):
            output = f"{self._prefix}/branch_{len(self.nodes)}_{number}"
            node = helper.make_node(kind, [x], [output], name=f"{output}_node", **attributes)
            branches.append(helper.make_graph([node], output, [], [onnx.ValueInfoProto(name=output)]))
        return self.op("If", condition, then_branch=branches[0], else_branch=branches[1])

    def reduce(self, kind: str, x: str, *, keepdims: bool = True) -> str:
        """Reduces along axis 1."""
        if self._opset >= AXES_AS_INPUT[kind]:
            return self.op(kind, x, self.constant(np.array([1], dtype=np.int64)), keepdims=int(keepdims))
        return self.op(kind, x, axes=[1], keepdims=int(keepdims))

    def pick(self, x: str, indices: tuple[int, ...] | range, *, axis: int) -> str:
        """The entries of one axis, in the given order."""
        return self.op("Gather", x, self.constant(np.array(indices, dtype=np.int64)), axis=axis)
