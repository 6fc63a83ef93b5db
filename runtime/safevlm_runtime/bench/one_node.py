"""ONNX models of a single node between constants, written as bytes: what the machine's speed is measured with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

IR_VERSION, OPSET = 8, 13
FLOAT, UINT8, INT8, INT32, FLOAT16, BFLOAT16 = 1, 2, 3, 6, 10, 16

_VARINT, _BYTES = 0, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """An operand: its ONNX element type, shape and little-endian bytes."""

    kind: int
    shape: tuple[int, ...]
    data: bytes


def one_node(operator: str, operands: Sequence[Constant], *, kind: int, shape: Iterable[int]) -> bytes:
    """A model without inputs: one operator on constants.

    Args:
        operator: Its name in ONNX's own domain.
        operands: In order.
        kind: Element type of the only output, `y`.
        shape: Of that output.
    """
    names = [f"x{index}" for index in range(len(operands))]
    node = b"".join(_text(1, name) for name in names) + _text(2, "y") + _text(4, operator)
    dimensions = b"".join(_nested(1, _number(1, size)) for size in shape)
    output = _text(1, "y") + _nested(2, _nested(1, _number(1, kind) + _nested(2, dimensions)))
    constants = b"".join(_nested(5, _tensor(name, one)) for name, one in zip(names, operands, strict=True))
    graph = _nested(1, node) + _text(2, "one_node") + constants + _nested(12, output)
    return _number(1, IR_VERSION) + _nested(7, graph) + _nested(8, _number(2, OPSET))


def _tensor(name: str, constant: Constant) -> bytes:
    sizes = b"".join(_number(1, size) for size in constant.shape)
    return sizes + _number(2, constant.kind) + _text(8, name) + _nested(9, constant.data)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _text(field: int, value: str) -> bytes:
    return _nested(field, value.encode("utf-8"))


def _nested(field: int, payload: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
