"""Every backend and precision of one gate side by side: size, time, error and flips, in one interleaved run.

    OMP_NUM_THREADS=1 python benchmarks/export_matrix.py [--rounds 20] [--threads 1] [--subjects …] [--out FILE]

`vit-b16` is ViT-B/16 at 224 pixels, made from its configuration with random weights: its numbers compare, and its
decisions mean nothing. `starter` is the shipped checkpoint. Beside them stands what this machine gives: the rate of
one matrix product of ViT-B's shape in float32 and in integers, measured in the same rotation. Wall time shows
the load of the machine, too; CPU time less so. Only ratios within one run compare. int8 leaves no layer of the tower
out.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import torch
from export_families import of_architecture
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from paired import percentiles, turn

from safevlm_export.graphs import gate_source
from safevlm_export.manifest_parts import rule_of, uncalibrated
from safevlm_export.precision.anatomy import head_nodes, typed
from safevlm_export.precision.calibration import measured_ranges
from safevlm_export.precision.half import to_half
from safevlm_export.precision.int8 import to_int8
from safevlm_export.precision.silence import silent
from safevlm_export.precision.weights_only import to_weights_only
from safevlm_export.proof_images import synthetic_images
from safevlm_export.proving import opened_graph
from safevlm_export.to_openvino import to_ir
from safevlm_export.tracing import export_graph
from safevlm_runtime.backends.openvino_backend import OpenvinoBackend, load_openvino
from safevlm_runtime.backends.ort_backend import OrtBackend, SessionOptions
from safevlm_runtime.bench.card import machine_card
from safevlm_sdk.decision import decide
from safevlm_sdk.errors import SafeVLMError
from safevlm_sdk.manifest import DECISION_OUTPUTS, Graph
from safevlm_sdk.margins import same
from safevlm_sdk.policy import default_policy_text, parse_policy
from safevlm_sdk.preprocess import preprocess
from safevlm_training.checkpoint import load_calibration
from safevlm_training.risk_model import RiskModel

STARTER = Path(__file__).resolve().parents[1] / "starter" / "checkpoint"
OUTPUTS = list(DECISION_OUTPUTS)
HEAD_FROM = "features"
GEMM = (197, 768, 3072)  # tokens, width and hidden width of ViT-B
HEADS = ("what", "MB", "p50 ms", "p95 ms", "CPU ms", "images/s", "x fp32", "logit error", "flips")
FP32 = "ONNX Runtime fp32"

Run = Callable[[np.ndarray], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to run the gate on pixels [1, 3, H, W]; `size` in bytes, or None."""

    name: str
    size: int | None
    run: Run


def contenders(model: RiskModel, pixels: np.ndarray, threads: int) -> tuple[list[Contender], dict[str, str]]:
    """All that can be made of a gate, and why the others cannot."""
    source = gate_source(model)
    data = export_graph(source, identity={}, opset=18).data
    one = opened_graph("gate", source.inputs, source.outputs, data)
    one.backend.close()
    graph, options = one.graph, SessionOptions(threads=threads, engine_seconds=600.0)

    def ort(bytes_: bytes) -> Contender:
        backend = OrtBackend.load(bytes_, graph, options)
        return Contender(name="", size=len(bytes_), run=lambda x: backend.run({"pixel_values": x}, OUTPUTS))

    def openvino(bytes_: bytes) -> Contender:
        xml, weights = to_ir(bytes_, "gate")
        settings = SessionOptions(provider="openvino", threads=threads, engine_seconds=600.0)
        backend = OpenvinoBackend.load(xml, weights, ir_of(graph), settings)
        size = len(xml) + len(weights)
        return Contender(name="", size=size, run=lambda x: backend.run({"pixel_values": x}, OUTPUTS))

    made: dict[str, bytes] = {"fp32": data}

    def int8() -> bytes:
        graph_of_types = typed(data)
        rows = ({"pixel_values": pixels[row : row + 1]} for row in range(len(pixels)))
        return to_int8(graph_of_types, measured_ranges(graph_of_types, rows), head_from=HEAD_FROM, target="cpu")

    recipes: dict[str, Callable[[], bytes]] = {
        "fp16": lambda: to_half(data, "fp16", head_from=HEAD_FROM),
        "bf16": lambda: to_half(data, "bf16", head_from=HEAD_FROM),
        "int8": int8,
        "int8 dynamic": lambda: dynamic_int8(data),
        "w8": lambda: to_weights_only(data, "w8", head_from=HEAD_FROM),
        "w4": lambda: to_weights_only(data, "w4", head_from=HEAD_FROM),
    }
    found = [Contender(name="PyTorch eager fp32", size=None, run=lambda x: model(torch.from_numpy(x)))]
    missing: dict[str, str] = {}
    for kind, engine in (("ONNX Runtime", ort), ("OpenVINO", openvino)):
        wanted = ("fp32", *recipes) if kind == "ONNX Runtime" else ("fp16", "bf16", "int8")
        for precision in wanted:
            name = f"{kind} {precision}"
            try:
                if precision not in made:
                    made[precision] = recipes[precision]()
                ready = engine(made[precision])
                ready.run(pixels[:1])
                found.append(Contender(name=name, size=ready.size, run=ready.run))
            except SafeVLMError as problem:
                missing[name] = " ".join(str(problem).split())[:160]
    return found, missing


def ir_of(graph: Graph) -> Graph:
    """The entry of a graph as OpenVINO's IR."""
    return msgspec.structs.replace(graph, backend="openvino", weights="graphs/gate.bin")


def dynamic_int8(data: bytes) -> bytes:
    """Scales that the graph finds while it runs; the SDK ships none of these, since a batch shares them."""
    model = typed(data)
    head = head_nodes(model, HEAD_FROM)
    with silent(), tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "a.onnx"), Path(folder, "b.onnx")
        given.write_bytes(model.SerializeToString())
        quantize_dynamic(
            given,
            made,
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_exclude=sorted(head),
            extra_options={"MatMulConstBOnly": True},
        )
        return made.read_bytes()


def products(threads: int) -> list[Contender]:
    """One matrix product of ViT-B's shape in ONNX Runtime, in float32 and in integers."""
    import onnxruntime

    rows, inner, columns = GEMM
    drawn = np.random.default_rng(0)
    kinds = {
        "fp32": ("MatMul", TensorProto.FLOAT, drawn.normal(size=(inner, columns)).astype(np.float32), np.float32),
        "int8": (
            "MatMulInteger",
            TensorProto.UINT8,
            drawn.integers(-127, 127, (inner, columns)).astype(np.int8),
            np.uint8,
        ),
    }
    found = []
    for name, (op, kind, weights, dtype) in kinds.items():
        result = TensorProto.FLOAT if name == "fp32" else TensorProto.INT32
        graph = helper.make_graph(
            [helper.make_node(op, ["x", "w"], ["y"])],
            "product",
            [helper.make_tensor_value_info("x", kind, [rows, inner])],
            [helper.make_tensor_value_info("y", result, [rows, columns])],
            [numpy_helper.from_array(weights, "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
        )
        x = np.ones((rows, inner), dtype=dtype)
        found.append(
            Contender(
                name=f"product {name}", size=None, run=lambda _, session=session, x=x: session.run(None, {"x": x})
            )
        )
    return found


def timed(found: list[Contender], pixels: np.ndarray, rounds: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name to wall and CPU milliseconds of every run; contenders take turns."""
    walls: dict[str, list[float]] = {one.name: [] for one in found}
    cpus: dict[str, list[float]] = {one.name: [] for one in found}
    for visit in range(rounds):
        row = visit % len(pixels)
        for place in turn(len(found), visit):
            wall, cpu = time.perf_counter(), time.process_time()
            found[place].run(pixels[row : row + 1])
            cpus[found[place].name].append(1e3 * (time.process_time() - cpu))
            walls[found[place].name].append(1e3 * (time.perf_counter() - wall))
    return {name: (np.asarray(walls[name]), np.asarray(cpus[name])) for name in walls}


def measure(name: str, rounds: int, threads: int, images: int) -> dict[str, Any]:
    """Everything about one gate, in plain values."""
    model = of_architecture("vit-b16") if name == "vit-b16" else RiskModel.from_pretrained(STARTER)
    calibrated = None if name == "vit-b16" else load_calibration(STARTER)
    rule = rule_of(model.config, calibrated or uncalibrated(model.config))
    policy = parse_policy(default_policy_text(), where="the default policy")
    rasters = [raster for _, raster in synthetic_images()][:images]
    pixels = np.stack([preprocess(raster, model.config.preprocessing) for raster in rasters])
    with torch.inference_mode():
        output = model(torch.from_numpy(pixels))[0]
        expected = {key: getattr(output, key).numpy() for key in OUTPUTS}
        ready, missing = contenders(model, pixels, threads)
        gemm = products(threads)
        times = timed([*ready, *gemm], pixels, rounds)
        rows = [row_of(one, *times[one.name], expected, pixels, (rule, policy)) for one in ready]
    base = next(row["p50_ms"] for row in rows if row["name"] == FP32)
    for row in rows:
        row["times_fp32"] = base / row["p50_ms"]
    work = 2e-6 * np.prod([float(size) for size in GEMM])
    rates = {one.name: float(work / np.median(times[one.name][0])) for one in gemm}
    return {"subject": name, "images": len(pixels), "rows": rows, "missing": missing, "gflops": rates}


def row_of(
    one: Contender,
    wall: np.ndarray,
    cpu: np.ndarray,
    expected: Mapping[str, np.ndarray],
    pixels: np.ndarray,
    judged_by: tuple[Any, Any],
) -> dict[str, Any]:
    """Size, times, error and flips of one contender; error is of the type logits, as a share of the largest."""
    types, levels = OUTPUTS
    flips, error = 0, 0.0
    for row in range(len(pixels)):
        found = one.run(pixels[row : row + 1])
        if not isinstance(found, dict):
            found = {key: getattr(found[0], key).numpy() for key in OUTPUTS}
        error = max(error, float(np.abs(found[types][0] - expected[types][row]).max()))
        wanted, got = (
            decide(*values, *judged_by)
            for values in ((expected[types][row], expected[levels][row]), (found[types][0], found[levels][0]))
        )
        flips += not same(wanted, got)
    p50, p95, _ = percentiles(wall)
    return {
        "name": one.name,
        "mb": None if one.size is None else one.size / 1e6,
        "p50_ms": p50,
        "p95_ms": p95,
        "cpu_ms": float(np.median(cpu)),
        "images_per_second": 1e3 / p50,
        "logit_error": error / float(np.abs(expected[types]).max()),
        "flips": flips,
    }


def print_table(found: dict[str, Any], rounds: int) -> None:
    """The table of one gate."""
    print(f"\n{found['subject']}: batch 1, {rounds} rounds; error and flips on {found['images']} generated images")
    print(f"| {' | '.join(HEADS)} |", f"|{' --- |' * len(HEADS)}", sep="\n")
    for row in found["rows"]:
        size = "" if row["mb"] is None else f"{row['mb']:.1f}"
        cells = (
            row["name"],
            size,
            *(f"{row[key]:.1f}" for key in ("p50_ms", "p95_ms", "cpu_ms", "images_per_second")),
        )
        cells += (f"{row['times_fp32']:.2f}", f"{row['logit_error']:.1e}", str(row["flips"]))
        print(f"| {' | '.join(cells)} |")
    for name, why in found["missing"].items():
        print(f"{name}: {why}")
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in found["gflops"].items())
    print(f"one product of {' x '.join(map(str, GEMM))} in ONNX Runtime, 10^9 operations a second: {rates}")


def main() -> int:
    """Prints card, tables and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", nargs="*", default=("vit-b16", "starter"), choices=("vit-b16", "starter"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--note", default=None, help="Kept in the result, as: the machine was loaded.")
    parser.add_argument("--out", type=Path, default=None, help="Write the JSON here, too.")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    card = {
        **msgspec.to_builtins(machine_card()),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "openvino": str(load_openvino().__version__),
        "threads": options.threads,
        "note": options.note,
    }
    for name, value in card.items():
        print(f"{name}: {value}")
    results = []
    for name in options.subjects:
        results.append(measure(name, options.rounds, options.threads, options.images))
        print_table(results[-1], options.rounds)
    line = json.dumps({"benchmark": "export_matrix", "card": card, "rounds": options.rounds, "results": results})
    print(line)
    if options.out is not None:
        options.out.write_text(line + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
