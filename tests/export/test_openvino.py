"""OpenVINO: what `--openvino` writes, what runs it, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from safevlm_export import proof_images
from safevlm_export.export import ExportOptions, export_checkpoint
from safevlm_export.proof_images import synthetic_images
from safevlm_export.to_openvino import to_ir
from safevlm_runtime.backends import openvino_backend
from safevlm_runtime.backends.openvino_backend import OpenvinoBackend
from safevlm_runtime.backends.ort_backend import SessionOptions
from safevlm_runtime.bundle.contract import choose_graph
from safevlm_runtime.bundle.ir_guard import check_ir
from safevlm_runtime.bundle.reader import Bundle, read_bundle
from safevlm_runtime.bundle.verify import verify_bundle
from safevlm_runtime.judging.gate import open_gate
from safevlm_runtime.runtime import Runtime
from safevlm_sdk import no_telemetry
from safevlm_sdk.decision import decide
from safevlm_sdk.errors import (
    BundleError,
    BundleGraph,
    DeviceMissing,
    EngineError,
    EngineTimeout,
    MissingExtra,
    ProviderError,
)
from safevlm_sdk.features import VisionFeatures
from safevlm_sdk.manifest import DECISION_OUTPUTS, GATE, SAFETY_HEAD
from safevlm_sdk.margins import same
from safevlm_sdk.preprocess import preprocess

Cases = Callable[[str], Any]
PICTURES = [pixels for _, pixels in synthetic_images()][:4]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bundle(case_of: Cases, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """int8 and IR, proven on the synthetic pictures alone, which is faster."""
    out = tmp_path_factory.mktemp("openvino") / "bundle"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(proof_images, "examples", list)
        export_checkpoint(
            case_of("vit-edge").checkpoint, out, ExportOptions(precisions=("fp32", "int8"), openvino=True)
        )
    return read_bundle(out)


def ir(bundle: Bundle, id: str = "gate.fp16.openvino") -> tuple[bytes, bytes]:
    return bundle.graphs[id], bundle.weights[id]


def loaded(bundle: Bundle, id: str = "gate.fp16.openvino", seconds: float = 60.0) -> OpenvinoBackend:
    graph = next(graph for graph in bundle.manifest.graphs if graph.id == id)
    return OpenvinoBackend.load(
        *ir(bundle, id), graph, SessionOptions(provider="openvino", threads=1, engine_seconds=seconds)
    )


def test_every_part_has_an_ir_that_was_proven_through_openvino(bundle: Bundle) -> None:
    graphs = {graph.id: graph for graph in bundle.manifest.graphs if graph.backend == "openvino"}
    assert list(graphs) == ["gate.fp16.openvino", "safety_head.fp32.openvino", "gate.int8.openvino"]
    for id, graph in graphs.items():
        assert graph.files == (f"graphs/{id}.xml", f"graphs/{id}.bin")
        assert graph.proven_on is not None
        assert graph.proven_on.startswith("OpenVINO 20")
        proof = bundle.manifest.proof.graphs[id]
        assert (proof.images, proof.flips) == (len(list(synthetic_images())), 0)
    assert b'type="FakeQuantize"' in bundle.graphs["gate.int8.openvino"]
    assert len(bundle.weights["gate.int8.openvino"]) < len(bundle.graphs["gate.fp32"])
    assert bundle.manifest.identity.checkpoint_digest.encode() in bundle.graphs["gate.fp16.openvino"]


@pytest.fixture(scope="module")
def in_components(case_of: Cases, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same, with tower, projector and head as graphs of their own."""
    out = tmp_path_factory.mktemp("openvino") / "components"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(proof_images, "examples", list)
        export_checkpoint(case_of("vit-edge").checkpoint, out, ExportOptions(components=True, openvino=True))
    return read_bundle(out)


def test_components_have_an_ir_each_with_equal_decisions(in_components: Bundle) -> None:
    found = {graph.role: graph for graph in in_components.manifest.graphs if graph.backend == "openvino"}
    assert set(found) == {GATE, SAFETY_HEAD, "vision_encoder", "safety_projector", "projected_head"}
    assert {graph.role: graph.precision for graph in found.values()} == {
        GATE: "fp16",
        SAFETY_HEAD: "fp32",
        "vision_encoder": "fp16",
        "safety_projector": "fp32",
        "projected_head": "fp32",
    }
    for graph in found.values():
        proof = in_components.manifest.proof.graphs[graph.id]
        assert (proof.images, proof.flips) == (len(list(synthetic_images())), 0)
    pixels = np.stack([preprocess(image, in_components.manifest.preprocessing) for image in PICTURES])
    features = run_ir(in_components, found["vision_encoder"].id, pixel_values=pixels)["features"]
    projected = run_ir(in_components, found["safety_projector"].id, features=features)["projected"]
    mask = np.ones(projected.shape[:2], np.bool_)
    steps = run_ir(in_components, found["projected_head"].id, projected=projected, mask=mask)
    whole = run_ir(in_components, found[GATE].id, pixel_values=pixels)
    decided = [
        [decide(*row, in_components.manifest.rule, in_components.policy) for row in zip(*outputs, strict=True)]
        for outputs in ([some[name] for name in DECISION_OUTPUTS] for some in (steps, whole))
    ]
    assert all(same(one, other) for one, other in zip(*decided, strict=True))


def run_ir(bundle: Bundle, id: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    backend = loaded(bundle, id)
    try:
        graph = next(graph for graph in bundle.manifest.graphs if graph.id == id)
        return backend.run(inputs, [output.name for output in graph.outputs])
    finally:
        backend.close()


def test_equal_graphs_give_equal_bytes(bundle: Bundle) -> None:
    onnx = bundle.graphs["gate.int8"]
    assert to_ir(onnx, "again") == to_ir(onnx, "again") == ir(bundle, "gate.int8.openvino")


@pytest.mark.parametrize("precision", [None, "fp16", "int8"])
def test_it_decides_as_onnx_runtime_does(bundle: Bundle, precision: str | None) -> None:
    with (
        Runtime.load(bundle.path, provider="openvino", precision=precision, threads=1) as runtime,
        Runtime.load(bundle.path, precision="fp32", threads=1) as original,
    ):
        for found, wanted in zip(runtime.check_many(PICTURES), original.check_many(PICTURES), strict=True):
            assert (found.error, wanted.error) == (None, None)
            assert (found.action, found.category, found.level) == (wanted.action, wanted.category, wanted.level)
            assert found.provider == "OpenVINO CPU"


def test_features_are_judged_by_the_heads_own_ir(bundle: Bundle) -> None:
    identity = bundle.manifest.identity
    assert identity.grid is not None
    assert identity.tap is not None
    array = np.random.default_rng(0).normal(size=(36, 16)).astype(np.float32)
    features = VisionFeatures(
        array=array,
        tower_digest=identity.tower_digest,
        tap=identity.tap,
        grid=identity.grid,
        raster_sha256="0" * 64,
    )
    verdicts = []
    for provider in ("openvino", "cpu"):
        with Runtime.load(bundle.path, provider=provider, threads=1) as runtime:
            verdicts.append(runtime.check_features(features))
    assert verdicts[0].score == pytest.approx(verdicts[1].score, abs=1e-4)
    chosen = choose_graph(bundle.manifest, SAFETY_HEAD, "OpenVINO CPU", "int8")
    assert chosen is not None
    assert chosen.id == "safety_head.fp32.openvino"


def test_ir_and_onnx_are_never_mixed_up(bundle: Bundle) -> None:
    for provider, wanted in (("CPUExecutionProvider", "gate.int8"), ("OpenVINO CPU", "gate.int8.openvino")):
        chosen = choose_graph(bundle.manifest, GATE, provider, None)
        assert chosen is not None
        assert chosen.id == wanted
    with pytest.raises(BundleError, match=r"no gate graph of precision 'fp32' for OpenVINO CPU, only fp16 for any"):
        choose_graph(bundle.manifest, GATE, "OpenVINO CPU", "fp32")


def test_verify_runs_them_and_other_weights_are_found(bundle: Bundle) -> None:
    report = verify_bundle(bundle.path)
    assert {graph.provider for graph in report.graphs} == {"CPUExecutionProvider", "OpenVINO CPU"}
    assert "gate.int8.openvino: reproduces its golden decisions on OpenVINO CPU" in report.render()
    weights = bundle.weights["gate.fp16.openvino"]
    changed = {**bundle.weights, "gate.fp16.openvino": b"\x00\x3c" * 16 + weights[32:]}  # the class token: all 1
    with pytest.raises(BundleError, match=r"gate\.fp16\.openvino: .* golden"):
        open_gate(
            replace(bundle, weights=changed),
            options=SessionOptions(provider="openvino", threads=1),
            precision="fp16",
        )


def test_a_run_that_takes_too_long_is_stopped_and_leaves_no_trace(bundle: Bundle) -> None:
    backend = loaded(bundle)
    pixels = np.random.default_rng(0).normal(size=(512, 3, 48, 48)).astype(np.float32)
    wanted = backend.run({"pixel_values": pixels[:1]}, ["type_logits"])["type_logits"]
    hurried = loaded(bundle, seconds=1e-6)
    with pytest.raises(EngineTimeout, match=r"was stopped after 0\.000512 s"):
        hurried.run({"pixel_values": pixels}, ["type_logits"])
    again = backend.run({"pixel_values": pixels[:1]}, ["type_logits"])["type_logits"]
    np.testing.assert_array_equal(wanted, again)
    backend.close()
    with pytest.raises(EngineError, match="closed"):
        backend.run({"pixel_values": pixels[:1]}, ["type_logits"])


def test_an_input_of_an_earlier_image_is_never_used_again(bundle: Bundle) -> None:
    backend = loaded(bundle, "safety_head.fp32.openvino")
    features, mask = np.ones((1, 36, 16), dtype=np.float32), np.ones((1, 36), dtype=np.bool_)
    backend.run({"features": features, "mask": mask}, ["type_logits"])
    with pytest.raises(EngineError, match="was given \\['features'\\]"):
        backend.run({"features": features}, ["type_logits"])


def test_threads_do_not_see_each_others_images(bundle: Bundle) -> None:
    backend = loaded(bundle)
    images = np.random.default_rng(0).normal(size=(4, 1, 3, 48, 48)).astype(np.float32)
    alone = [backend.run({"pixel_values": one}, ["type_logits"])["type_logits"] for one in images]
    wrong: list[int] = []

    def run(number: int) -> None:
        for _ in range(10):
            found = backend.run({"pixel_values": images[number]}, ["type_logits"])["type_logits"]
            if not np.array_equal(found, alone[number]):
                wrong.append(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_float32_layers_are_computed_in_float32(bundle: Bundle) -> None:
    compiled = loaded(bundle)._compiled
    kinds = {
        node.get_rt_info()["runtimePrecision"].astype(str)
        for node in compiled.get_runtime_model().get_ops()
        if node.get_rt_info()["layerType"].astype(str) in ("FullyConnected", "MatMul", "Convolution")
    }
    assert kinds == {"f32"}


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b'<?xml version="1.0"?>', b'<?xml version="1.0"?><!DOCTYPE net [<!ENTITY a "b">]>', "document type"),
        (b'<?xml version="1.0"?>', b'<?xml version="1.0" encoding="latin-1"?>', "encoding 'latin-1'"),
        (b"<layers>", b"<?run me?><layers>", "instruction to 'run'"),
        (b'version="opset1"', b'version="extension"', "'extension', which is none of OpenVINO's own"),
        (b'type="Const"', b'type="ReadValue"', "ReadValue: it keeps something of one image"),
        (b'type="Const"', b'type="Loop"', "Loop: it may never end"),
        (b"<layers>", b"<body></body><layers>", "element 'body', which is unknown"),
        (b'offset="0"', b'offset="99999999"', "bytes at '99999999'"),
        (b'offset="0"', b'offset="-8"', "bytes at '-8'"),
        (b'version="11"', b'version="12"', "version '12'"),
        (b"</net>", b"", "no element found"),
    ],
)
def test_what_an_ir_may_not_hold(bundle: Bundle, old: bytes, new: bytes, why: str) -> None:
    data, weights = ir(bundle)
    check_ir(data, weights, where="it")
    assert old in data
    with pytest.raises(BundleGraph, match="it: refused, because .*" + why.replace("(", r"\(")):
        check_ir(data.replace(old, new, 1), weights, where="it")


def test_what_is_no_ir_at_all() -> None:
    for data in (b"", b"\x08\x07", b"<net/>", b'<net version="11"/>', b"<net" * 100):
        with pytest.raises(BundleGraph, match="refused"):
            check_ir(data, b"", where="it")


def test_a_device_that_is_not_there_has_a_name(bundle: Bundle) -> None:
    with pytest.raises(DeviceMissing, match=r"no NPU here, only CPU"):
        Runtime.load(bundle.path, provider="openvino:NPU", precision="fp16")


def test_a_graph_that_is_not_what_the_manifest_says(bundle: Bundle) -> None:
    graph = next(graph for graph in bundle.manifest.graphs if graph.id == "safety_head.fp32.openvino")
    with pytest.raises(BundleGraph, match=r"its inputs are \['pixel_values'\], but \['features', 'mask'\]"):
        OpenvinoBackend.load(*ir(bundle), graph, SessionOptions(provider="openvino"))


def test_without_openvino_the_extra_is_named(bundle: Bundle, tmp_path: Path, monkeypatch: Any) -> None:
    def absent() -> Any:
        raise ModuleNotFoundError("No module named 'openvino'", name="openvino")

    monkeypatch.setattr(openvino_backend, "import_openvino", absent)
    with pytest.raises(MissingExtra, match=r"safevlm-sdk\[openvino\]"):
        Runtime.load(bundle.path, provider="openvino")
    with pytest.raises(MissingExtra, match=r"safevlm-sdk\[openvino\]"):
        export_checkpoint(tmp_path / "none", tmp_path / "out", ExportOptions(openvino=True))

    def broken() -> Any:
        raise OSError("libtbb.so.12: cannot open shared object file")

    monkeypatch.setattr(openvino_backend, "import_openvino", broken)
    with pytest.raises(ProviderError, match=r"does not load \(OSError\)"):
        Runtime.load(bundle.path, provider="openvino")


def test_importing_it_sends_nothing_and_writes_nothing(tmp_path: Path) -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*_): raise SystemExit('a connection was tried')\n"
        "socket.socket.connect = refuse\n"
        "from safevlm_sdk.no_telemetry import REPORTER, import_openvino\n"
        "assert import_openvino().Core().available_devices\n"
        "assert not [name for name in sys.modules if name.startswith(REPORTER)]\n"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "CI": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []
    assert no_telemetry.REPORTER not in sys.modules
