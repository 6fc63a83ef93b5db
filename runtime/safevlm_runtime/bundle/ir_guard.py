"""Refusing OpenVINO IR that reaches outside its own two files, remembers images, or runs without end.

The walk visits every element of the XML. Elements and formats that it does not know are refused: a newer format is
not guessed at.
"""

from __future__ import annotations

import re
from xml.parsers import expat

from safevlm_sdk.errors import BundleGraph

VERSION = "11"
REFUSED_OPS = {
    "Assign": "it keeps something of one image for the next",
    "ReadValue": "it keeps something of one image for the next",
    "Loop": "it may never end",
    "TensorIterator": "it may never end",
}
# fmt: off
ELEMENTS = frozenset((
    "attribute", "data", "dim", "edge", "edges", "framework", "input", "layer", "layers", "net", "output", "port",
    "rt_info", "safevlm",
))
# fmt: on
MAX_XML_BYTES = 2**28
MAX_DEPTH = 16

_OPSET = re.compile(r"opset[1-9][0-9]?")
_NUMBER = re.compile(r"[0-9]{1,12}")
_UTF8 = (None, "utf-8", "UTF-8")


class _Refusal(Exception):
    """What is wrong with the XML."""


def check_ir(data: bytes, weights: bytes, *, where: str, remedy: str = "export the bundle again") -> None:
    """Refuses an IR that is not plain: entities, foreign operators, state, loops, constants outside its weights.

    Args:
        data: The XML.
        weights: The file of constants.
        where: The graph's name in messages.
        remedy: What to do about a refusal.

    Raises:
        BundleGraph: The bytes are no IR, or one that a bundle may not hold.
    """
    try:
        _Walk(len(weights)).over(data)
    except (_Refusal, expat.ExpatError, UnicodeError) as problem:
        raise BundleGraph(f"{where}: refused, because {problem}; {remedy}") from problem


class _Walk:
    """One pass over the XML, element by element."""

    def __init__(self, weights: int) -> None:
        self._weights = weights
        self._open: list[str] = []
        self._layer = ""
        self._layers = 0

    def over(self, data: bytes) -> None:
        """Checks all of it."""
        if len(data) > MAX_XML_BYTES:
            raise _Refusal(f"its XML has {len(data)} bytes, and {MAX_XML_BYTES} are the most")
        parser = expat.ParserCreate()
        parser.XmlDeclHandler = self._declaration
        parser.StartDoctypeDeclHandler = _document_type
        parser.ProcessingInstructionHandler = _instruction
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.Parse(data, True)
        if not self._layers:
            raise _Refusal("it holds no layer")

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding not in _UTF8:
            raise _Refusal(f"its XML is in the encoding {encoding!a}, and not in UTF-8")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if name not in ELEMENTS:
            raise _Refusal(f"it holds an element {name!a}, which is unknown")
        if (name == "net") != (not self._open) or len(self._open) >= MAX_DEPTH:
            raise _Refusal(f"an element {name!a} stands where none may be")
        if name == "net" and attributes.get("version") != VERSION:
            raise _Refusal(f"it is IR of version {attributes.get('version')!a}; {VERSION} is read")
        if name == "layer":
            self._check_layer(attributes)
        if name == "data" and self._layer == "Const":
            self._check_constant(attributes)
        self._open.append(name)

    def _end(self, name: str) -> None:
        self._open.pop()

    def _check_layer(self, attributes: dict[str, str]) -> None:
        self._layers += 1
        self._layer = attributes.get("type", "")
        opset = attributes.get("version", "")
        if not _OPSET.fullmatch(opset):
            raise _Refusal(f"it uses the operator {self._layer!a} of {opset!a}, which is none of OpenVINO's own sets")
        if self._layer in REFUSED_OPS:
            raise _Refusal(f"it uses the operator {self._layer}: {REFUSED_OPS[self._layer]}")

    def _check_constant(self, attributes: dict[str, str]) -> None:
        offset, size = attributes.get("offset", ""), attributes.get("size", "")
        if not _NUMBER.fullmatch(offset) or not _NUMBER.fullmatch(size) or int(offset) + int(size) > self._weights:
            raise _Refusal(
                f"a constant is said to be {size[:20]!a} bytes at {offset[:20]!a}; the weights have {self._weights}"
            )


def _document_type(name: str, system: str | None, public: str | None, internal: int) -> None:
    raise _Refusal("its XML declares a document type, and with it entities")


def _instruction(target: str, data: str) -> None:
    raise _Refusal(f"its XML holds an instruction to {target[:40]!a}")
