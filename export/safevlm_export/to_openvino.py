"""From ONNX graphs to OpenVINO's IR: two files, an XML of layers and the constants, each proven through OpenVINO.

The precision is that of the ONNX graph: one quantizer and one conversion to 16 bits serve both engines, and the head
stays float32 here, too.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from safevlm_export.one_by_one import OneByOne
from safevlm_export.precision.finished import finished
from safevlm_export.precision.half import to_half
from safevlm_export.proven_on import this_machine
from safevlm_export.proving import ENGINE_SECONDS, Exported
from safevlm_runtime.backends.backend import Backend
from safevlm_runtime.backends.openvino_backend import OpenvinoBackend, load_openvino
from safevlm_runtime.backends.ort_backend import SessionOptions
from safevlm_runtime.bundle.ir_guard import check_ir
from safevlm_runtime.bundle.self_test import fixed_batch
from safevlm_sdk.errors import ExportError
from safevlm_sdk.manifest import GATE, RGB_GATE, VISION_ENCODER, Graph

TOWER_ROLES = (GATE, VISION_ENCODER)
# A tower in float32 would be no better than ONNX Runtime's, and fp16 stores its weights in half the bytes.
LOWERED = ("bf16", "int8")

_LAYER = re.compile(rb'<layer id="(\d+)" name="[^"]*" type="([^"]*)"')


@contextmanager
def openvino_graphs(made: Sequence[Exported]) -> Iterator[list[Exported]]:
    """IR of graphs, compiled for the processor and closed at the end.

    Towers are there in fp16, and in bf16 and int8 where `made` has such a graph for processors; other graphs are
    float32. A gate of images of any size has no IR.

    Args:
        made: ONNX graphs of all precisions.

    Raises:
        MissingExtra: OpenVINO is not installed.
        ExportError: OpenVINO cannot read a graph, or this processor cannot compute in bf16.
        BundleGraph: The runtime would refuse what it wrote.
    """
    opened: list[Exported] = []
    try:
        for one in made:
            source = _source(one)
            if source is not None:
                opened.append(_opened(*source))
        yield opened
    finally:
        for one in opened:
            one.backend.close()


def to_ir(data: bytes, name: str) -> tuple[bytes, bytes]:
    """XML and constants of an ONNX graph; equal graphs give equal bytes.

    Raises:
        ExportError: OpenVINO cannot read it.
    """
    openvino = load_openvino()
    with tempfile.TemporaryDirectory(prefix="safevlm-") as folder:
        xml, constants = Path(folder, "graph.xml"), Path(folder, "graph.bin")
        try:
            openvino.serialize(openvino.Core().read_model(data, b""), str(xml), str(constants))
        except Exception as problem:  # OpenVINO raises RuntimeError for nearly everything
            last = (str(problem).strip().splitlines() or [type(problem).__name__])[-1].strip()
            raise ExportError(
                f"{name}: OpenVINO cannot read the graph ({last[:200]}); leave out --openvino"
            ) from problem
        # Layers are named by a counter of the process; tensors, by which inputs and outputs go, keep their names.
        return _LAYER.sub(rb'<layer id="\1" name="\2_\1" type="\2"', xml.read_bytes()), constants.read_bytes()


def _source(one: Exported) -> tuple[Exported, Graph, bytes] | None:
    """A graph, its entry as IR, and the ONNX that the IR is made of; None where there is no IR of it."""
    role, precision = one.graph.role, one.graph.precision
    if role == RGB_GATE:
        return None
    if precision == "fp32":
        graph = _entry(one.graph, "fp16" if role in TOWER_ROLES else "fp32")
        if graph.precision == "fp32":
            return one, graph, one.data
        return one, graph, finished(to_half(one.data, "fp16", head_from=one.head_from), one.data, graph)
    if precision not in LOWERED or (precision == "int8" and one.graph.target != "cpu"):
        return None
    if precision == "bf16":
        _require_bf16()
    return one, _entry(one.graph, precision), one.data


def _entry(graph: Graph, precision: Any) -> Graph:
    name = f"{graph.role}.{precision}.openvino"
    return msgspec.structs.replace(
        graph,
        id=name,
        backend="openvino",
        precision=precision,
        file=f"graphs/{name}.xml",
        weights=f"graphs/{name}.bin",
        target="any",
        proven_on=this_machine(f"OpenVINO {_version()}"),
    )


def _opened(one: Exported, graph: Graph, onnx: bytes) -> Exported:
    data, weights = to_ir(onnx, graph.id)
    check_ir(data, weights, where=graph.id, remedy="leave out --openvino")
    options = SessionOptions(provider="openvino", engine_seconds=ENGINE_SECONDS)
    backend: Backend = OpenvinoBackend.load(data, weights, graph, options)
    if fixed_batch(graph) == 1:
        backend = OneByOne(backend)
    return Exported(graph=graph, data=data, weights=weights, backend=backend, head_from=one.head_from)


def _require_bf16() -> None:
    """Refuses to prove bf16 where it would be computed in float32."""
    found = [str(name) for name in load_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")]
    if "BF16" not in found:
        raise ExportError(
            f"bf16: OpenVINO has no bf16 on this processor, only {', '.join(found)}, so that a proof would be of "
            "something else; leave out --openvino, or bf16 out of --precision"
        )


def _version() -> str:
    return str(load_openvino().__version__).split("-")[0]
