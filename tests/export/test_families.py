"""Towers of vision-language models as gates in ONNX: by torch.export, or traced where the tower packs its patches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from safevlm_export.embeddings import embeddings_of
from safevlm_export.graphs import gate_source
from safevlm_export.to_onnx import MIN_OPSET
from safevlm_export.tracing import OnnxGraph, export_graph, traced
from safevlm_runtime.bundle.onnx_guard import check_onnx
from safevlm_sdk.errors import ExportError
from safevlm_sdk.taxonomy import load_taxonomy
from safevlm_training.config import edge_config
from safevlm_training.modules import SafetyModules
from safevlm_training.quiet import quiet
from safevlm_training.risk_model import RiskModel
from safevlm_training.towers.load import describe_tower
from safevlm_training.vlm.adapter import VisionAdapter
from safevlm_training.vlm.tiny import tiny_vlm

SIDES = {"qwen2_5_vl": 56, "pixtral": 32}  # of towers that take any size
LLM_WIDTH = 32
Build = Callable[..., RiskModel]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A gate on the tiny model of a family; each family's files are written once."""
    root = tmp_path_factory.mktemp("families")

    def make(family: str, tap: str, **changes: object) -> RiskModel:
        folder = root / family
        if not folder.exists():
            with quiet():
                for part in tiny_vlm(family):
                    part.save_pretrained(folder)
        tower, described, spec = describe_tower(str(folder), tap, image_size=SIDES.get(family))
        fields = {"tower": described, "grid": tower.grid, "feature_width": tower.feature_width}
        fields |= {"taxonomy": load_taxonomy(), "coverage": {"privacy": "Documents."}, "preprocessing": spec}
        sizes = {"width": 16, "num_queries": 2, "num_heads": 4, "num_tokens": 3, "num_llm_tokens": 2}
        torch.manual_seed(0)
        return RiskModel(tower, SafetyModules(edge_config(**fields | sizes | changes))).eval()

    return make


def noise(model: RiskModel) -> torch.Tensor:
    spec = model.config.preprocessing
    return torch.rand(2, 3, spec.height, spec.width, generator=torch.Generator().manual_seed(5)) * 2 - 1


def run(made: OnnxGraph, pixels: torch.Tensor) -> dict[str, np.ndarray]:
    check_onnx(made.data, where="gate")
    session = onnxruntime.InferenceSession(made.data)
    names = [output.name for output in session.get_outputs()]
    assert names == [spec.name for spec in made.source.outputs]
    alone = made.source.inputs[0].shape[0] == 1
    batches = [pixels[row : row + 1] for row in range(len(pixels))] if alone else [pixels]
    found = [session.run(names, {"pixel_values": batch.numpy()}) for batch in batches]
    return {name: np.concatenate(rows) for name, rows in zip(names, zip(*found, strict=True), strict=True)}


def assert_near(found: np.ndarray, wanted: torch.Tensor) -> None:
    scale = max(1.0, float(wanted.abs().max()))
    assert found.shape == tuple(wanted.shape)
    assert np.abs(found - wanted.numpy()).max() <= 1e-4 * scale


@pytest.mark.parametrize(
    ("family", "tap", "exporter"),
    [
        ("llava", "hidden:-2", "torch.export"),
        ("qwen2_5_vl", "hidden:-2", "tracer"),
        ("pixtral", "projected", "tracer"),
    ],
)
def test_a_family_exports_with_what_its_language_model_takes(
    build: Build, family: str, tap: str, exporter: str
) -> None:
    model = build(family, tap, llm_width=LLM_WIDTH)
    made = export_graph(gate_source(model, embeddings_of(model)), identity={"role": "gate"})
    assert made.exporter == exporter
    if family == "llava":  # two layers of the tower and the head: nothing runs twice
        nodes = onnx.load_from_string(made.data).graph.node
        assert sum(node.op_type == "Softmax" for node in nodes) == 2 + 1
    batch = {spec.shape[0] for spec in (*made.source.inputs, *made.source.outputs)}
    assert batch == ({"batch"} if exporter == "torch.export" else {1})
    assert ("traced" in "".join(made.notes)) == (exporter == "tracer")
    pixels = noise(model)
    found = run(made, pixels)
    with torch.inference_mode():
        output, features = model(pixels)
        projected = VisionAdapter(tiny_vlm(family)[0], "projected").encode_view(pixels)[0]
    for name in ("type_logits", "level_logprobs", "attention", "safety_embeddings"):
        assert_near(found[name], getattr(output, name))
    assert_near(found["features"], features)
    assert_near(found["image_features"], projected)
    assert not np.allclose(found["features"][0], found["features"][1], atol=1e-3)
    assert len(made.data) < 1.5 * 2**20


def test_embeddings_that_are_not_there_are_refused(build: Build) -> None:
    with pytest.raises(ExportError, match=r"no safety embeddings.*leave --embeddings out"):
        embeddings_of(build("llava", "hidden:-2"))
    tuned = build("llava", "hidden:-2", llm_width=LLM_WIDTH)
    tuned.tuned_tower = True
    with pytest.raises(ExportError, match="tower of this checkpoint was tuned"):
        embeddings_of(tuned)


def test_two_traced_exports_are_equal(build: Build) -> None:
    source = gate_source(build("pixtral", "hidden:-2"))
    first, second = (traced(source, MIN_OPSET)[1].SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_what_the_tracer_cannot_write_is_said(build: Build) -> None:
    source = gate_source(build("pixtral", "hidden:-2"))
    with pytest.raises(
        ExportError, match=r"cannot export this model to ONNX \(.*with a traced tower: .* opset 18 to 20"
    ):
        export_graph(source, identity={}, opset=21)
