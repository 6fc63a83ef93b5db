"""What can be exported beside the gate: components, embeddings and a gate on uint8 RGB, each proven."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from safevlm_export.classifier.export import export_from_onnx
from safevlm_export.components import component_sources, component_vectors
from safevlm_export.embeddings import embeddings_of
from safevlm_export.export import ExportOptions
from safevlm_export.proof_images import synthetic_images
from safevlm_export.reference import reference_vectors
from safevlm_export.tracing import export_graph
from safevlm_runtime.bundle.reader import Bundle, read_bundle
from safevlm_runtime.runtime import Runtime
from safevlm_sdk.command.app import app
from safevlm_sdk.decision import decide
from safevlm_sdk.errors import ExportError
from safevlm_sdk.manifest import DECISION_OUTPUTS, GATE
from safevlm_sdk.margins import same
from safevlm_sdk.preprocess import preprocess

Cases = Callable[[str], Any]
PIXELS = [pixels for _, pixels in synthetic_images()]
COMPONENTS = ("vision_encoder", "safety_projector", "projected_head")


@pytest.fixture(scope="module")
def bundle(case_of: Cases, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Of a checkpoint with safety embeddings, with all that can be exported."""
    out = tmp_path_factory.mktemp("parts") / "bundle"
    options = ["--components", "--embeddings", "--uint8-input"]
    done = CliRunner().invoke(app, ["export", str(case_of("clip-edge").checkpoint), str(out), *options])
    assert done.exit_code == 0, done.output
    assert "warning: the safety tokens were never trained with a language model" in done.output
    return read_bundle(out)


def run(data: bytes, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(data)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def graph_bytes(bundle: Bundle, role: str) -> bytes:
    (graph,) = [graph for graph in bundle.manifest.graphs if graph.role == role]
    return bundle.graphs[graph.id]


def in_three_steps(graphs: dict[str, bytes], pixels: np.ndarray) -> dict[str, np.ndarray]:
    features = run(graphs["vision_encoder"], pixel_values=pixels)["features"]
    projected = run(graphs["safety_projector"], features=features)["projected"]
    mask = np.ones(projected.shape[:2], dtype=np.bool_)
    return run(graphs["projected_head"], projected=projected, mask=mask)


def test_every_graph_is_proven(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert {graph.role for graph in manifest.graphs} == {GATE, "safety_head", *COMPONENTS, "rgb_gate"}
    for graph in manifest.graphs:
        proof = manifest.proof.graphs[graph.id]
        assert (proof.images, proof.flips) == (37, 0)
        assert graph.exporter == (None if graph.role == "rgb_gate" else "torch.export")
        assert all(error <= 1e-3 for error in proof.max_error.values())


def test_three_steps_are_the_gate(bundle: Bundle, case_of: Cases) -> None:
    manifest, policy = bundle.manifest, bundle.policy
    pixels = np.stack([preprocess(image, manifest.preprocessing) for image in PIXELS])
    steps = in_three_steps({role: graph_bytes(bundle, role) for role in COMPONENTS}, pixels)
    gate = run(graph_bytes(bundle, GATE), pixel_values=pixels)
    with torch.inference_mode():
        output, _ = case_of("clip-edge").model(torch.from_numpy(pixels))
    for name in DECISION_OUTPUTS:
        np.testing.assert_allclose(steps[name], gate[name], atol=1e-4)
        np.testing.assert_allclose(steps[name], getattr(output, name).numpy(), atol=1e-4)
    actions = set()
    for row in range(len(PIXELS)):
        decisions = [
            decide(*(found[name][row] for name in DECISION_OUTPUTS), manifest.rule, policy) for found in (steps, gate)
        ]
        assert same(*decisions)
        actions.add(decisions[0].action)
    assert len(actions) > 1


def test_a_projector_with_a_grid_in_three_steps(case_of: Cases) -> None:
    model = case_of("clip-paper").model
    graphs = {source.role: export_graph(source, identity={}).data for source in component_sources(model)}
    gate = reference_vectors(model, PIXELS[:4])[GATE]
    steps = in_three_steps(graphs, gate.inputs["pixel_values"])
    for name in DECISION_OUTPUTS:
        np.testing.assert_allclose(steps[name], gate.expected[name], atol=1e-4)
    for role, vectors in component_vectors(model, gate).items():
        found = run(graphs[role], **vectors.inputs)
        for name, wanted in vectors.expected.items():
            np.testing.assert_allclose(found[name], wanted, atol=1e-4 * max(1.0, np.abs(wanted).max()))


def test_the_rgb_gate_is_preprocessing_and_gate(bundle: Bundle) -> None:
    manifest = bundle.manifest
    for image in PIXELS[::3]:
        found = run(graph_bytes(bundle, "rgb_gate"), rgb=image)
        wanted = run(graph_bytes(bundle, GATE), pixel_values=preprocess(image, manifest.preprocessing)[None])
        assert found.keys() == {"type_logits", "level_logprobs", "attention"}
        for name, values in found.items():
            np.testing.assert_allclose(values, wanted[name], atol=1e-5)


def test_safety_embeddings_are_the_checkpoints(bundle: Bundle, case_of: Cases) -> None:
    pixels = np.stack([preprocess(image, bundle.manifest.preprocessing) for image in PIXELS[:3]])
    gate = run(graph_bytes(bundle, GATE), pixel_values=pixels)
    with torch.inference_mode():
        output, _ = case_of("clip-edge").model(torch.from_numpy(pixels))
    np.testing.assert_allclose(gate["safety_embeddings"], output.safety_embeddings.numpy(), atol=1e-4)
    assert "image_features" not in gate  # its tower belongs to no vision-language model


def test_the_runtime_judges_with_it_as_with_the_plain_bundle(bundle: Bundle, case_of: Cases) -> None:
    with Runtime.load(bundle.path) as more, Runtime.load(case_of("clip-edge").bundle) as plain:
        for mine, theirs in zip(more.check_many(PIXELS), plain.check_many(PIXELS), strict=True):
            assert (mine.error, mine.action, mine.category) == (None, theirs.action, theirs.category)


def test_embeddings_of_a_checkpoint_without_a_language_model_are_refused(case_of: Cases, tmp_path: Path) -> None:
    model = case_of("vit-edge").model
    with pytest.raises(ExportError, match=r"llm_width is null\); leave --embeddings out"):
        embeddings_of(model)
    arguments = ["export", str(case_of("vit-edge").checkpoint), str(tmp_path / "out"), "--embeddings"]
    assert CliRunner().invoke(app, arguments).exit_code != 0
    assert not (tmp_path / "out").exists()


def test_parts_of_a_classifier_are_refused(tmp_path: Path) -> None:
    options = ExportOptions(components=True, uint8_input=True)
    with pytest.raises(ExportError, match="--components, --uint8-input: belongs to checkpoints"):
        export_from_onnx(tmp_path / "model.onnx", tmp_path / "map.toml", tmp_path / "out", options)
