"""Refusing ONNX graphs that reach outside their own bytes or run without end.

The walk visits every node, tensor, attribute and subgraph. Fields it does not know are refused too: a graph in a
newer format is not guessed at. Field numbers are those of ONNX's published schema.
"""

from __future__ import annotations

from typing import Literal

from safevlm_runtime.bundle.wire_format import Wire, WireError, fields
from safevlm_sdk.errors import BundleGraph

DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})
REFUSED_OPS = {
    "EPContext": "it hands foreign binary code to a driver",
    "Loop": "it may never end",
    "PyOp": "it runs Python",
}
MAX_DEPTH = 16

Kind = Literal["model", "graph", "node", "attribute", "tensor", "sparse", "opset"]

# Message kind to the numbers of all its fields that a bundle's graph may have.
KNOWN: dict[Kind, frozenset[int]] = {
    "model": frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14}),
    "graph": frozenset({1, 2, 5, 10, 11, 12, 13, 14, 15, 16}),
    "node": frozenset({1, 2, 3, 4, 5, 6, 7, 8, 9}),
    "attribute": frozenset({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 20, 21, 22, 23}),
    "tensor": frozenset({1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16}),
    "sparse": frozenset({1, 2, 3}),
    "opset": frozenset({1, 2}),
}
# Message kind to the fields that are messages to be walked.
NESTED: dict[Kind, dict[int, Kind]] = {
    "model": {7: "graph", 8: "opset"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "tensor": {},
    "sparse": {1: "tensor", 2: "tensor"},
    "opset": {},
}
# Fields that deserve their own words when they are refused.
_NAMED: dict[tuple[Kind, int], str] = {
    ("model", 20): "training information",
    ("model", 25): "model-local functions; inline them before exporting",
}
_OP_TYPE, _DOMAIN = 4, 7
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


def check_onnx(data: bytes, *, where: str, remedy: str = "export the bundle again") -> None:
    """Refuses a graph that names external data, foreign operators or endless loops.

    Args:
        data: The bytes of an ONNX model.
        where: The graph's name in messages.
        remedy: What to do about a refusal.

    Raises:
        BundleGraph: The bytes are no ONNX model, or one that a bundle may not hold.
    """
    try:
        if data[4:8] == b"ORTM":
            raise WireError("it is in ONNX Runtime's own format, not ONNX")
        if not _walk(memoryview(data), "model", 0):
            raise WireError("it holds no graph")
    except (WireError, UnicodeDecodeError) as problem:
        raise BundleGraph(f"{where}: refused, because {problem}; {remedy}") from problem


def _walk(message: memoryview, kind: Kind, depth: int) -> bool:
    """Checks one message and all below it; True when it holds a graph."""
    if depth > MAX_DEPTH:
        raise WireError(f"its graphs are nested more than {MAX_DEPTH} levels deep")
    known, nested = KNOWN[kind], NESTED[kind]
    holds_graph = False
    for number, wire, value, payload in fields(message):
        if number not in known:
            raise WireError(f"it holds {_NAMED.get((kind, number), f'field {number} in a {kind}, which is unknown')}")
        below = nested.get(number)
        if below is not None:
            _require_bytes(wire, kind, number)
            _walk(payload, below, depth + 1)
            holds_graph = holds_graph or below == "graph"
        elif kind == "node" and number in (_OP_TYPE, _DOMAIN):
            _require_bytes(wire, kind, number)
            _check_operator(number, str(payload, "utf-8"))
        elif kind == "tensor" and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0)):
            raise WireError("a tensor's data lie outside the graph")
        elif kind == "tensor" and number == _DATA_LOCATION and wire is not Wire.VARINT:
            raise WireError("a tensor's data location is no number")
    return holds_graph


def _require_bytes(wire: Wire, kind: Kind, number: int) -> None:
    if wire is not Wire.BYTES:
        raise WireError(f"field {number} in a {kind} has another type than ONNX gives it")


def _check_operator(number: int, name: str) -> None:
    if number == _DOMAIN and name not in DOMAINS:
        raise WireError(f"it uses the operator domain {name!r}; allowed are {sorted(DOMAINS)}")
    if number == _OP_TYPE and name in REFUSED_OPS:
        raise WireError(f"it uses the operator {name}: {REFUSED_OPS[name]}")
