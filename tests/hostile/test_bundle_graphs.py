"""Graphs that reach outside their bytes, or never end, are refused before ONNX Runtime sees them."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from safevlm_runtime.bundle.onnx_guard import KNOWN, NESTED, check_onnx
from safevlm_sdk.errors import BundleGraph

SCHEMA = {
    "model": onnx.ModelProto, "graph": onnx.GraphProto, "node": onnx.NodeProto, "attribute": onnx.AttributeProto,
    "tensor": onnx.TensorProto, "sparse": onnx.SparseTensorProto, "opset": onnx.OperatorSetIdProto,
}  # fmt: skip


def subgraph(*nodes, initializer=()):
    return helper.make_graph(list(nodes), "sub", [], [], list(initializer))


def model(*nodes, initializer=(), sparse=()):
    graph = helper.make_graph(list(nodes), "g", [], [], list(initializer), sparse_initializer=list(sparse))
    return helper.make_model(graph)


def external():
    tensor = TensorProto(name="w", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


def only_entries():
    tensor = TensorProto(name="w", data_type=1, dims=[1], raw_data=b"\0\0\0\0")
    tensor.external_data.add(key="location", value="../x")
    return tensor


def constant(tensor):
    return helper.make_node("Constant", [], ["c"], value=tensor)


def sparse(tensor):
    return onnx.SparseTensorProto(values=tensor, dims=[1])


def if_with(graph):
    return helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=graph)


def nested(depth):
    graph = subgraph(helper.make_node("Identity", ["a"], ["b"]))
    for _ in range(depth):
        graph = subgraph(if_with(graph))
    return model(if_with(graph))


def with_function():
    found = model(helper.make_node("Identity", ["a"], ["b"]))
    found.functions.append(
        helper.make_function("", "F", ["a"], ["b"], [constant(external())], [helper.make_opsetid("", 17)])
    )
    return found


BAD = {
    "external initializer": lambda: model(initializer=[external()]),
    "external entries alone": lambda: model(initializer=[only_entries()]),
    "external location alone": lambda: model(
        initializer=[TensorProto(name="w", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)]
    ),
    "external sparse initializer": lambda: model(sparse=[sparse(external())]),
    "external attribute": lambda: model(constant(external())),
    "external list attribute": lambda: model(helper.make_node("X", [], ["y"], many=[external(), external()])),
    "external in a subgraph": lambda: model(if_with(subgraph(initializer=[external()]))),
    "external in a nested constant": lambda: model(if_with(subgraph(constant(external())))),
    "a function": with_function,
    "foreign domain": lambda: model(helper.make_node("Evil", [], ["y"], domain="my.ops")),
    "ml domain": lambda: model(helper.make_node("Scaler", [], ["y"], domain="ai.onnx.ml")),
    "foreign domain in a subgraph": lambda: model(if_with(subgraph(helper.make_node("E", [], [], domain="z")))),
    "EPContext": lambda: model(helper.make_node("EPContext", [], ["y"], domain="com.microsoft")),
    "EPContext in the plain domain": lambda: model(helper.make_node("EPContext", [], ["y"])),
    "PyOp": lambda: model(helper.make_node("PyOp", [], ["y"], domain="com.microsoft")),
    "endless loop": lambda: model(helper.make_node("Loop", ["", "t"], ["y"], body=subgraph())),
    "loop in a subgraph": lambda: model(if_with(subgraph(helper.make_node("Loop", [], [], body=subgraph())))),
    "nesting": lambda: nested(12),
    "training": lambda: onnx.ModelProto(graph=onnx.GraphProto(), training_info=[onnx.TrainingInfoProto()]),
    "no graph": lambda: onnx.ModelProto(ir_version=9),
}


@pytest.mark.parametrize("case", BAD)
def test_it_is_refused(case):
    with pytest.raises(BundleGraph, match="refused, because"):
        check_onnx(BAD[case]().SerializeToString(), where="graph")


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\x08", b"\xff" * 20, b"ONNX" * 9, b"\x14\0\0\0ORTM" + b"\0" * 99, b"\x3b\x3c"]
)
def test_bytes_that_are_no_model_are_refused(data):
    with pytest.raises(BundleGraph):
        check_onnx(data, where="graph")


def test_harmless_graphs_pass(models):
    check_onnx(models["gate"](("privacy", "safe")).SerializeToString(), where="gate")
    check_onnx(models["safety_head"](("privacy", "safe")).SerializeToString(), where="head")
    tensor = numpy_helper.from_array(numpy_helper.to_array(TensorProto(name="w", data_type=1, dims=[0])), "w")
    fused = helper.make_node("QGemm", [], ["y"], domain="com.microsoft")
    check_onnx(model(fused, if_with(subgraph()), initializer=[tensor]).SerializeToString(), where="fused")


@pytest.mark.parametrize("kind", KNOWN)
def test_field_numbers_are_those_of_onnx(kind):
    fields = {field.number: field for field in SCHEMA[kind].DESCRIPTOR.fields}
    assert KNOWN[kind] <= set(fields)
    walked = {type_.DESCRIPTOR.full_name: name for name, type_ in SCHEMA.items()}
    messages = {number: walked.get(f.message_type.full_name) for number, f in fields.items() if f.message_type}
    wanted = {number: name for number, name in messages.items() if name and number in KNOWN[kind]}
    assert NESTED[kind] == wanted


@settings(max_examples=200, deadline=None)
@given(cut=st.integers(0, 10_000), flip=st.integers(0, 7))
def test_a_damaged_model_is_accepted_or_refused_by_name(cut, flip):
    data = bytearray(nested(2).SerializeToString())
    data[cut % len(data)] ^= 1 << flip
    try:
        check_onnx(bytes(data), where="graph")
    except BundleGraph as problem:
        assert "graph: refused" in str(problem)  # noqa: PT017 - acceptance is right too
