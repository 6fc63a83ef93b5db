"""What `gpu.py` times: one gate on ONNX Runtime, on TensorRT and in PyTorch.

"host" takes pixels from main memory and gives the decision back there, as the gate does; "device" leaves both in the
memory of the device, which is what the engine alone takes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import torch
from export_families import of_architecture, of_family
from transformers import PreTrainedModel

from safevlm_export.graphs import gate_source
from safevlm_export.precision.half import to_half
from safevlm_export.proving import opened_graph
from safevlm_export.tracing import export_graph
from safevlm_runtime.backends.ort_backend import PROVIDERS, OrtBackend, SessionOptions
from safevlm_runtime.backends.trt.build import EngineRequest, build_engine
from safevlm_runtime.backends.trt.device import open_device
from safevlm_runtime.backends.trt.engine import deserialise
from safevlm_runtime.backends.trt.flavor import FlavorName, load_flavor
from safevlm_runtime.backends.trt.profile import BATCH, profile_of
from safevlm_runtime.backends.trt.sidecar import here, sidecar
from safevlm_runtime.backends.trt.trt_backend import TrtBackend
from safevlm_runtime.bench.operations import count_operations
from safevlm_sdk.manifest import DECISION_OUTPUTS, Graph
from safevlm_sdk.no_telemetry import import_onnxruntime
from safevlm_training.quiet import quiet

OUTPUTS = list(DECISION_OUTPUTS)
PIXELS = "pixel_values"
SECONDS = 600.0  # a slow run is a figure here, and no failure
USUAL_BATCH = 8
# Of `torch.compile`, with the contender's name; without one, nothing is compiled.
TORCH_MODES: dict[str | None, str] = {
    None: "PyTorch eager {}",
    "default": "PyTorch compiled {}",
    "reduce-overhead": "PyTorch compiled {}, CUDA graphs",
}
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

Run = Callable[[], np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A gate with random weights, exported.

    Attributes:
        module: From normalised pixels to what the head says, in float32 on the CPU; what was exported.
        graphs: Precision to the manifest's entry of the graph.
        data: Precision to the graph's bytes.
        side: Pixels of a square view.
        flops: Of one view.
    """

    name: str
    module: torch.nn.Module
    graphs: dict[str, Graph]
    data: dict[str, bytes]
    side: int
    flops: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to run a gate on a batch that it holds.

    Attributes:
        precision: What its matrices are multiplied in.
        place: "host" or "device".
        run: Runs once and waits for the end.
        logits: Of the first image of the last run, by type of risk.
    """

    name: str
    precision: str
    place: str
    run: Callable[[], object]
    logits: Run


def make_subject(name: str) -> Subject:
    """Exports the gate on a real architecture, or on the tiny LLaVA for "tiny"."""
    model = of_family("llava", "hidden:-2") if name == "tiny" else of_architecture(name)
    source = gate_source(model)
    data = export_graph(source, identity={}).data
    opened = opened_graph("gate", source.inputs, source.outputs, data)
    opened.backend.close()
    half = msgspec.structs.replace(opened.graph, id="gate.fp16", precision="fp16", file="graphs/gate.fp16.onnx")
    counted = count_operations(data, opened.graph)
    if counted is None:
        raise SystemExit(f"{name}: ONNX Runtime cannot run it on this CPU, so that its operations cannot be counted")
    return Subject(
        name=name,
        module=source.module,
        graphs={"fp32": opened.graph, "fp16": half},
        data={"fp32": data, "fp16": to_half(data, "fp16", head_from="features")},
        side=model.config.preprocessing.height,
        flops=counted.flops,
    )


def ort_host(subject: Subject, precision: str, device: str) -> Callable[[np.ndarray], Contender]:
    """ONNX Runtime as the gate runs it."""
    options = SessionOptions(provider=device, engine_seconds=SECONDS)
    backend = OrtBackend.load(subject.data[precision], subject.graphs[precision], options)
    return lambda pixels: _of_backend(backend, f"ONNX Runtime {precision}", precision, pixels)


def ort_device(subject: Subject, precision: str, device: str, *, graphs: bool) -> Callable[[np.ndarray], Contender]:
    """ONNX Runtime with inputs and outputs bound on the device, with or without CUDA graphs.

    With them the first run of a shape records, and later runs replay on the same memory; every shape has an id.
    """
    onnxruntime = import_onnxruntime()
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as the gate's sessions
    provider = (PROVIDERS[device], {"enable_cuda_graph": "1"} if graphs else {})
    session = onnxruntime.InferenceSession(subject.data[precision], settings, providers=[provider], enable_fallback=0)
    if session.get_providers()[0] != provider[0]:
        raise RuntimeError(f"{provider[0]} was asked for, and {session.get_providers()[0]} is in use")
    shapes = {spec.name: spec.shape[1:] for spec in subject.graphs[precision].outputs if spec.name in OUTPUTS}
    name = f"ONNX Runtime {precision}, {'CUDA graphs' if graphs else 'bound'}"

    def with_batch(pixels: np.ndarray) -> Contender:
        given = onnxruntime.OrtValue.ortvalue_from_numpy(pixels, device, 0)
        found = {
            output: onnxruntime.OrtValue.ortvalue_from_shape_and_type((len(pixels), *rest), np.float32, device, 0)
            for output, rest in shapes.items()
        }
        binding, options = session.io_binding(), onnxruntime.RunOptions()
        binding.bind_ortvalue_input(PIXELS, given)
        for output, value in found.items():
            binding.bind_ortvalue_output(output, value)
        if graphs:
            options.add_run_config_entry("gpu_graph_id", str(len(pixels)))

        def run() -> None:
            session.run_with_iobinding(binding, options)
            binding.synchronize_outputs()

        read = found[OUTPUTS[0]]
        return Contender(name=name, precision=precision, place="device", run=run, logits=lambda: read.numpy()[0])

    return with_batch


def tensorrt(subject: Subject, flavor_name: FlavorName, most: int) -> Callable[[np.ndarray], Contender]:
    """An engine of the fp16 graph, built now for this GPU, as the runtime builds and runs one."""
    flavor = load_flavor(flavor_name)
    device = open_device(flavor_name)
    graph, data = subject.graphs["fp16"], subject.data["fp16"]
    profile = profile_of(graph, {BATCH: (1, min(USUAL_BATCH, most), most)})
    request = EngineRequest(name=graph.id, onnx=data, profile=profile)
    device.use()
    built = build_engine(flavor, request)
    entry = sidecar(graph, request, here(flavor, device.capability), built.engine)
    backend = TrtBackend(deserialise(flavor, entry, built.engine), graph, flavor, device, SECONDS)
    return lambda pixels: _of_backend(backend, f"{flavor.title} {flavor.version} fp16", "fp16", pixels)


def pytorch(subject: Subject, precision: str, device: str, mode: str | None) -> Callable[[np.ndarray], Contender]:
    """PyTorch with its fused attention: eager, or compiled for one shape at a time.

    Args:
        subject: The gate.
        precision: All of it, the head too.
        device: "cuda" or "cpu".
        mode: One of `TORCH_MODES`.
    """
    dtype = DTYPES[precision]
    module = copy.deepcopy(subject.module)
    for part in module.modules():
        if isinstance(part, PreTrainedModel):
            part.set_attn_implementation("sdpa")
    module = module.to(device=device, dtype=dtype).eval()
    name = TORCH_MODES[mode].format(precision)

    def with_batch(pixels: np.ndarray) -> Contender:
        given, last = torch.from_numpy(pixels).to(device=device, dtype=dtype), {}
        # A graph that breaks, or is compiled too often, would run eagerly without a word.
        called = module if mode is None else torch.compile(module, fullgraph=True, dynamic=False, mode=mode)

        def run() -> None:
            with torch.inference_mode():
                last["logits"] = called(given)[0]
            if device == "cuda":
                torch.cuda.synchronize()

        return Contender(
            name=name,
            precision=precision,
            place="device",
            run=run,
            logits=lambda: last["logits"][0].float().cpu().numpy(),
        )

    return with_batch


def reference_logits(subject: Subject, pixels: np.ndarray) -> np.ndarray:
    """The first image's logits in float32 on the CPU."""
    with quiet(), torch.inference_mode():
        return subject.module(torch.from_numpy(pixels[:1]))[0][0].numpy()


def _of_backend(backend: Any, name: str, precision: str, pixels: np.ndarray) -> Contender:
    last: dict[str, np.ndarray] = {}

    def run() -> None:
        last.update(backend.run({PIXELS: pixels}, OUTPUTS))

    return Contender(name=name, precision=precision, place="host", run=run, logits=lambda: last[OUTPUTS[0]][0])
