"""Which towers export to ONNX, by which exporter, and how near the graph is to PyTorch.

    OMP_NUM_THREADS=1 python benchmarks/export_families.py [--families llava qwen2_vl …] [--architectures clip-b16 …]

Without arguments, the tiny model of every family that SafeVLM is proven with is exported at both taps. Real
architectures are made from their configurations with random weights, at hidden:-2; the largest takes 8 GiB of memory.
Each graph, tower and safety head, runs in ONNX Runtime on three noisy images; the errors are the largest differences
from PyTorch's type logits and levels, and from its features. Exits with 1 where one is above 1e-4 (of the largest
feature, for features) or a tower does not export.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import torch
import transformers

from safevlm_export.graphs import gate_source
from safevlm_export.tracing import export_graph
from safevlm_runtime.bench.card import machine_card
from safevlm_sdk.errors import SafeVLMError
from safevlm_sdk.preprocess import Preprocessing
from safevlm_sdk.taxonomy import load_taxonomy
from safevlm_training.config import TowerConfig, edge_config
from safevlm_training.modules import SafetyModules
from safevlm_training.quiet import quiet
from safevlm_training.risk_model import RiskModel
from safevlm_training.towers.load import describe_tower
from safevlm_training.towers.tower import Tower
from safevlm_training.towers.transformers_tower import TransformersTower
from safevlm_training.vlm.gate_view import block_side, takes_any_size
from safevlm_training.vlm.tiny import FAMILIES, tiny_vlm
from safevlm_training.vlm.vision_parts import find_vision

TAPS = ("hidden:-2", "projected")
IMAGES = 3
BOUND = 1e-4
SIDE = 112  # pixels, about, of the view of tiny towers that take any size
COVERAGE = {"privacy": "Nothing: random weights.", "illegal_risk": "Nothing: random weights."}
HEAD = "| tower | tap | pixels | patches | exporter | opset | batch | nodes | MB | logits | features | seconds |"
RULE = "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
SO400M = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A published tower's shape: the class, its configuration, and what differs from the class's defaults."""

    model: str
    config: str
    changes: dict[str, Any]


ARCHITECTURES = {
    "vit-b16": Architecture(model="ViTModel", config="ViTConfig", changes={}),
    "clip-b16": Architecture(model="CLIPVisionModel", config="CLIPVisionConfig", changes={"patch_size": 16}),
    "siglip-b16": Architecture(model="SiglipVisionModel", config="SiglipVisionConfig", changes={}),
    "dinov2-b": Architecture(model="Dinov2Model", config="Dinov2Config", changes={"image_size": 518}),
    "clip-l14-336": Architecture(
        model="CLIPVisionModel", config="CLIPVisionConfig", changes={**LARGE, "image_size": 336, "patch_size": 14}
    ),
    "siglip2-so400m-384": Architecture(
        model="SiglipVisionModel",
        config="SiglipVisionConfig",
        changes={**SO400M, "image_size": 384, "patch_size": 14, "vision_use_head": False},
    ),
}
PIXELS = {"dinov2-b": 224}  # where they are not the configuration's


def of_family(family: str, tap: str) -> RiskModel:
    """A gate on the tiny model of a family."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        model, processor = tiny_vlm(family)
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        parts = find_vision(model)
        block = block_side(parts)
        size = SIDE // block * block if takes_any_size(parts) else None
        return gate(*describe_tower(folder, tap, image_size=size))


def of_architecture(name: str) -> RiskModel:
    """A gate on a tower with random weights."""
    chosen = ARCHITECTURES[name]
    with quiet():
        config = getattr(transformers, chosen.config)(**chosen.changes, attn_implementation="eager")
        torch.manual_seed(0)
        model = getattr(transformers, chosen.model)(config).eval()
    side = PIXELS.get(name, config.image_size)
    tower = TransformersTower(model, "hidden:-2", (side, side), frozenset()).freeze()
    spec = Preprocessing(
        resize="exact",
        height=side,
        width=side,
        shortest_edge=None,
        resample="bicubic",
        rescale_factor=1 / 255,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )
    digest = "sha256:" + "0" * 64
    return gate(
        tower, TowerConfig(kind="transformers", name=name, revision=None, tap="hidden:-2", digest=digest), spec
    )


def gate(tower: Tower, described: TowerConfig, spec: Preprocessing) -> RiskModel:
    """The default head behind a tower."""
    config = edge_config(
        tower=described,
        grid=tower.grid,
        feature_width=tower.feature_width,
        taxonomy=load_taxonomy(),
        coverage=COVERAGE,
        preprocessing=spec,
    )
    torch.manual_seed(0)
    return RiskModel(tower, SafetyModules(config)).eval()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table, and whether the graph is as near as it must be."""

    cells: tuple[str, ...]
    good: bool


def measure(name: str, model: RiskModel, opset: int) -> Row:
    """Exports one gate and compares it with PyTorch."""
    config, spec = model.config, model.config.preprocessing
    begun = time.monotonic()
    made = export_graph(gate_source(model), identity={}, opset=opset)
    seconds = time.monotonic() - begun
    generator = torch.Generator().manual_seed(1)
    pixels = torch.rand(IMAGES, 3, spec.height, spec.width, generator=generator) * 2 - 1
    with torch.inference_mode():
        output, features = model(pixels)
    expected = {"type_logits": output.type_logits, "level_logprobs": output.level_logprobs, "features": features}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(made.data, options)
    alone = made.source.inputs[0].shape[0] == 1
    errors = dict.fromkeys(expected, 0.0)
    for rows in [slice(row, row + 1) for row in range(IMAGES)] if alone else [slice(0, IMAGES), slice(0, 1)]:
        found = session.run(list(expected), {"pixel_values": pixels[rows].numpy()})
        for (key, wanted), values in zip(expected.items(), found, strict=True):
            errors[key] = max(errors[key], float(np.abs(values - wanted[rows].numpy()).max()))
    logits = max(errors["type_logits"], errors["level_logprobs"])
    graph = onnx.load_from_string(made.data)
    cells = (
        name,
        config.tower.tap,
        f"{spec.height} x {spec.width}",
        f"{config.grid[0]} x {config.grid[1]}",
        made.exporter,
        str(graph.opset_import[0].version),
        "1" if alone else "any",
        str(len(graph.graph.node)),
        f"{len(made.data) / 1e6:.1f}",
        f"{logits:.1e}",
        f"{errors['features']:.1e}",
        f"{seconds:.0f}",
    )
    near = errors["features"] <= BOUND * max(1.0, float(features.abs().max()))
    return Row(cells=cells, good=logits <= BOUND and near)


def subjects(options: argparse.Namespace) -> Iterator[tuple[str, str, Callable[[], RiskModel]]]:
    """Name, tap, and how to make the gate."""
    for family in options.families:
        for tap in options.taps:
            yield f"tiny {family}", tap, lambda family=family, tap=tap: of_family(family, tap)
    for name in options.architectures:
        yield name, "hidden:-2", lambda name=name: of_architecture(name)


def main() -> int:
    """Prints the table; 1 where something is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="*", default=None, choices=FAMILIES, metavar="FAMILY")
    parser.add_argument("--architectures", nargs="*", default=None, choices=tuple(ARCHITECTURES), metavar="NAME")
    parser.add_argument("--taps", nargs="*", default=TAPS, choices=TAPS)
    parser.add_argument("--opset", type=int, default=18)
    options = parser.parse_args()
    if options.families is None and options.architectures is None:
        options.families = FAMILIES
    options.families, options.architectures = options.families or (), options.architectures or ()
    torch.set_num_threads(1)
    card = msgspec.to_builtins(machine_card())
    card |= {"torch": torch.__version__, "transformers": transformers.__version__, "onnx": onnx.__version__}
    for name, value in card.items():
        print(f"{name}: {value}")
    print(HEAD, RULE, sep="\n", flush=True)
    bad = 0
    for name, tap, make in subjects(options):
        try:
            row = measure(name, make(), options.opset)
        except SafeVLMError as problem:
            row = Row(cells=(name, tap, " ".join(str(problem).split())), good=False)
        bad += not row.good
        print(f"| {' | '.join(row.cells)} |" + ("" if row.good else " above the bound"), flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
