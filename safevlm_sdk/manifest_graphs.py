"""The parts of a manifest that say what can be run: graphs, their proofs, and engines built of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from safevlm_sdk.strict import Strict

GATE: Final = "gate"
SAFETY_HEAD: Final = "safety_head"
VISION_ENCODER: Final = "vision_encoder"
SAFETY_PROJECTOR: Final = "safety_projector"
PROJECTED_HEAD: Final = "projected_head"
RGB_GATE: Final = "rgb_gate"
DECIDING_ROLES = (GATE, SAFETY_HEAD, PROJECTED_HEAD, RGB_GATE)
# The others take features, or what was made of them.
IMAGE_ROLES = (GATE, VISION_ENCODER, RGB_GATE)
DECISION_OUTPUTS = ("type_logits", "level_logprobs")

Role: TypeAlias = Literal["gate", "safety_head", "vision_encoder", "safety_projector", "projected_head", "rgb_gate"]
Precision: TypeAlias = Literal["fp32", "fp16", "bf16", "int8", "w8", "w4"]
# Smallest, usual and largest shape of one input of an engine.
ShapeRange: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

_CAPABILITY = re.compile(r"[1-9][0-9]*\.[0-9]")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class TensorSpec(Strict, frozen=True):
    """One input or output; a dimension is a number, or a name for one that varies."""

    name: str
    dtype: Literal["float32", "float16", "bool", "uint8", "int64"]
    shape: tuple[int | str, ...]


class Graph(Strict, frozen=True, omit_defaults=True):
    """One executable graph.

    Inputs and outputs are float32 (masks bool, pixels of "rgb_gate" uint8) whatever the precision inside.

    Attributes:
        id: Unique, as "gate.fp32".
        role: "gate" takes normalised pixels, "safety_head" takes features and their mask, "rgb_gate" takes one image;
            "vision_encoder", "safety_projector" and "projected_head" are the gate in three steps, and only the last
            of them decides.
        backend: What runs it.
        precision: The arithmetic inside; "w8" and "w4" store weights so, and compute in float32.
        file: Path inside the bundle.
        inputs: In order.
        outputs: In order.
        tolerance: Output name to the largest absolute difference from the golden value.
        target: What the graph was made for: "any", "cpu" (unsigned activations, as int8 kernels of processors want
            them) or "tensorrt" (what its parser takes); no other runtime chooses a graph made for TensorRT.
        weights: A second file, with the weights, where the backend's format has one.
        proven_on: What ran the graph in its proof, as "ONNX Runtime 1.31.1, CPU x86_64 avx512_vnni".
        exporter: What of PyTorch wrote the graph this one was made of: "tracer" ran its tower once, on one image.
        kept_fp32: Layers that stayed float32 in a graph of lower precision because they changed its decisions.
    """

    id: str
    role: Role
    backend: Literal["onnxruntime", "openvino"]
    precision: Precision
    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    tolerance: dict[str, float]
    target: Literal["any", "cpu", "tensorrt"]
    weights: str | None = None
    proven_on: str | None = None
    exporter: Literal["torch.export", "tracer"] | None = None
    kept_fp32: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        outputs = {spec.name for spec in self.outputs}
        needed: Sequence[str] = DECISION_OUTPUTS if self.decides else [spec.name for spec in self.outputs]
        missing = [name for name in needed if name not in outputs or name not in self.tolerance]
        if missing or not needed:
            raise ValueError(f"graph {self.id}: no output or no tolerance for {', '.join(missing) or 'anything'}")
        for name, value in self.tolerance.items():
            if name not in outputs or not 0.0 < value < float("inf"):
                raise ValueError(f"graph {self.id}: tolerance of {name} is {value}; give a positive number")
        if (self.weights is not None) != (self.backend == "openvino"):
            raise ValueError(
                f"graph {self.id}: weights is {self.weights!r}; graphs of openvino alone have such a file"
            )

    @property
    def decides(self) -> bool:
        """Whether it gives type logits and levels, of which a decision follows."""
        return self.role in DECIDING_ROLES

    @property
    def files(self) -> tuple[str, ...]:
        """Its files inside the bundle."""
        return (self.file,) if self.weights is None else (self.file, self.weights)


class GraphProof(Strict, frozen=True, omit_defaults=True):
    """What one graph did on the proof images, against the checkpoint in PyTorch or the original classifier.

    Attributes:
        images: How many were compared.
        max_error: Output name to the largest absolute difference.
        mean_error: Output name to the mean absolute difference.
        flips: Images whose category, level or action changed.
        near_threshold: Images within 0.01 of a threshold.
        flips_by_category: The flips by the category that the original gave.
    """

    images: int
    max_error: dict[str, float]
    mean_error: dict[str, float]
    flips: int
    near_threshold: int
    flips_by_category: dict[str, int] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.images >= 1 and 0 <= self.flips <= self.images and 0 <= self.near_threshold <= self.images):
            raise ValueError(f"a proof of {self.flips} flips on {self.images} images is none")
        counted = self.flips_by_category
        if counted and (min(counted.values()) < 1 or sum(counted.values()) != self.flips):
            raise ValueError(f"flips_by_category is {counted}, but there were {self.flips} flips")


class Engine(Strict, frozen=True):
    """What was built of one graph for one kind of device; it cannot run elsewhere, and was not run when it was built.

    When it is loaded it must reproduce the golden outputs of its graph within that graph's tolerance.

    Attributes:
        id: Unique among graphs and engines, as "gate.fp16.tensorrt_rtx".
        graph: Id of the graph that it was built of; role, precision, inputs and outputs are that graph's.
        file: Path inside the bundle.
        flavor: Which TensorRT.
        version: Of that TensorRT.
        compute_capabilities: Of the GPUs that it was built for, as "8.6".
        profile: Input name to its smallest, usual and largest shape.
        onnx_sha256: `sha256:…` of the graph's file.
        host_os: As `platform.system()` says it.
        size: Bytes.
    """

    id: str
    graph: str
    file: str
    flavor: Literal["tensorrt", "tensorrt_rtx"]
    version: str
    compute_capabilities: tuple[str, ...]
    profile: dict[str, ShapeRange]
    onnx_sha256: str
    host_os: str
    size: int

    def __post_init__(self) -> None:
        capabilities = self.compute_capabilities
        if not capabilities or not all(_CAPABILITY.fullmatch(one) for one in capabilities):
            raise ValueError(f"engine {self.id}: compute_capabilities are {list(capabilities)}; give such as '8.6'")
        if not _DIGEST.fullmatch(self.onnx_sha256) or self.size < 1:
            raise ValueError(f"engine {self.id}: needs `sha256:` of its graph, and a size above 0")
        for name, shapes in self.profile.items():
            ordered = len({len(shape) for shape in shapes}) == 1 and all(
                1 <= least <= usual <= most for least, usual, most in zip(*shapes, strict=True)
            )
            if not ordered:
                raise ValueError(f"engine {self.id}: profile of {name} is {shapes}; give least, usual, largest shape")
