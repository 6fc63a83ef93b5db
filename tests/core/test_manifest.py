"""The manifest is strict, canonical and sealed by its digest."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from safevlm_sdk.errors import ManifestError
from safevlm_sdk.golden import Golden, golden_bytes, parse_golden
from safevlm_sdk.manifest import (
    Calibration,
    Engine,
    Graph,
    GraphProof,
    Identity,
    Manifest,
    Proof,
    TensorSpec,
    Thresholds,
    ViewPlan,
    manifest_bytes,
    manifest_digest,
    parse_manifest,
    sealed,
)
from safevlm_sdk.preprocess import Preprocessing
from safevlm_sdk.strict import canonical_json
from safevlm_sdk.taxonomy import load_taxonomy

HASH = "sha256:" + "0" * 64


@pytest.fixture
def manifest():
    gate = Graph(
        id="gate.fp32",
        role="gate",
        backend="onnxruntime",
        precision="fp32",
        file="graphs/gate.fp32.onnx",
        inputs=(TensorSpec(name="pixel_values", dtype="float32", shape=("batch", 3, 8, 8)),),
        outputs=(
            TensorSpec(name="type_logits", dtype="float32", shape=("batch", 2)),
            TensorSpec(name="level_logprobs", dtype="float32", shape=("batch", 4)),
        ),
        tolerance={"type_logits": 1e-3, "level_logprobs": 1e-3},
        target="any",
    )
    return sealed(
        Manifest(
            schema_version=1,
            digest="",
            name="test",
            license="Apache-2.0",
            identity=Identity(
                tower="t", tower_digest=HASH, checkpoint_digest=HASH, tap="hidden:-1", grid=(2, 2), feature_width=8
            ),
            taxonomy=load_taxonomy(),
            coverage={"privacy": "documents"},
            labels=("privacy", "safe"),
            activation="softmax",
            preprocessing=Preprocessing(
                resize="exact",
                height=8,
                width=8,
                shortest_edge=None,
                resample="bicubic",
                rescale_factor=1 / 255,
                mean=(0.5, 0.5, 0.5),
                std=(0.5, 0.5, 0.5),
            ),
            view_plan=ViewPlan(raster_max_side=64, tile=None, overlap=0, max_views=1),
            calibration=Calibration(method="none", temperature=1.0, risky_groups=0, safe_groups=0, note=""),
            thresholds=Thresholds(categories={"privacy": 0.5}, any=0.5),
            graphs=(gate,),
            proof=Proof(
                kind="numeric",
                source="none",
                graphs={"gate.fp32": GraphProof(images=1, max_error={}, mean_error={}, flips=0, near_threshold=0)},
            ),
            files={"graphs/gate.fp32.onnx": HASH, "golden.npz": HASH, "policy.toml": HASH, "README.md": HASH},
        )
    )


def resealed(manifest, edit):
    """The manifest's JSON after `edit` of its plain form, with a digest that fits again."""
    plain = msgspec.to_builtins(manifest)
    edit(plain)
    plain.pop("digest", None)
    from safevlm_sdk.strict import digest

    return canonical_json(plain | {"digest": digest(canonical_json(plain))})


def test_it_reads_what_it_wrote(manifest):
    assert parse_manifest(manifest_bytes(manifest)) == manifest
    assert manifest.digest == manifest_digest(manifest)
    assert manifest.rule.covered == ("privacy",)


def test_an_edited_field_breaks_the_digest(manifest):
    edited = manifest_bytes(manifest).replace(b'"any":0.5', b'"any":0.9')
    with pytest.raises(ManifestError, match="digest is"):
        parse_manifest(edited)


@pytest.mark.parametrize(
    "spell",
    [
        lambda data: json.dumps(json.loads(data), indent=1).encode(),
        lambda data: data + b"\n",
        lambda data: data.replace(b'{"activation":"softmax",', b'{"activation":"softmax","activation":"softmax",'),
        lambda data: data.replace(b'"any":0.5', b'"any":0.50'),
    ],
)
def test_a_second_spelling_is_refused(manifest, spell):
    data = manifest_bytes(manifest)
    assert spell(data) != data
    with pytest.raises(ManifestError, match="canonical"):
        parse_manifest(spell(data))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m.update(colour="red"), "colour"),
        (lambda m: m.pop("license"), "license"),
        (lambda m: m.update(schema_version=2), "schema_version"),
        (lambda m: m.update(schema_version="1"), "schema_version"),
        (lambda m: m.update(labels=["privacy"]), "safe"),
        (lambda m: m.update(labels=["privacy", "privacy", "safe"]), "only once"),
        (lambda m: m.update(activation="sigmoid"), "sigmoid"),
        (lambda m: m.update(coverage={}), "coverage names"),
        (lambda m: m["thresholds"].update(categories={"fairness": 0.5}), "thresholds names"),
        (lambda m: m["thresholds"].update(any=0.0), "any"),
        (lambda m: m["calibration"].update(temperature=-1.0), "temperature"),
        (lambda m: m["taxonomy"]["categories"].pop("privacy"), "taxonomy"),
        (lambda m: m["files"].update({"../x": HASH}), "plain path"),
        (lambda m: m["files"].update({"/etc/passwd": HASH}), "plain path"),
        (lambda m: m["files"].update({"a//b": HASH}), "plain path"),
        (lambda m: m["files"].update({"manifest.json": HASH}), "plain path"),
        (lambda m: m["files"].update({"golden.npz": "md5:0"}), "sha256"),
        (lambda m: m["files"].pop("golden.npz"), "golden.npz"),
        (lambda m: m["graphs"][0].update(role="safety_head"), "gate"),
        (lambda m: m["graphs"][0].update(outputs=m["graphs"][0]["outputs"][:1]), "level_logprobs"),
        (lambda m: m["graphs"][0]["tolerance"].update(type_logits=-1.0), "positive"),
        (lambda m: m["proof"].update(graphs={}), "proof is of"),
        (lambda m: m["preprocessing"].update(std=[0.0, 1.0, 1.0]), "std"),
        (lambda m: m["view_plan"].update(raster_max_side=0), "raster_max_side"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(manifest, edit, message):
    with pytest.raises(ManifestError, match=message):
        parse_manifest(resealed(manifest, edit))


STARTER = Path(__file__).resolve().parents[2] / "runtime" / "safevlm_runtime" / "starter" / "manifest.json"


def test_a_manifest_of_before_keeps_its_bytes_and_its_digest():
    written = STARTER.read_bytes()
    parsed = parse_manifest(written)
    assert manifest_bytes(parsed) == written
    assert b"engines" not in written
    assert parsed.engines == ()


def encoder(**changes):
    fields = {
        "id": "vision_encoder.fp16",
        "role": "vision_encoder",
        "backend": "onnxruntime",
        "precision": "fp16",
        "file": "graphs/vision_encoder.fp16.onnx",
        "inputs": (TensorSpec(name="pixel_values", dtype="float32", shape=("batch", 3, 8, 8)),),
        "outputs": (TensorSpec(name="features", dtype="float32", shape=("batch", 4, 8)),),
        "tolerance": {"features": 0.1},
        "target": "tensorrt",
        "proven_on": "ONNX Runtime 1.31.1",
        "kept_fp32": ("blocks.0",),
    }
    return Graph(**(fields | changes))


ENGINE = {
    "id": "gate.fp32.tensorrt",
    "graph": "gate.fp32",
    "file": "engines/gate.engine",
    "flavor": "tensorrt",
    "version": "11.4.0",
    "compute_capabilities": ("8.6", "12.0"),
    "profile": {"pixel_values": ((1, 3, 8, 8), (8, 3, 8, 8), (32, 3, 8, 8))},
    "onnx_sha256": HASH,
    "host_os": "Linux",
    "size": 10,
}


def test_graphs_of_every_role_and_engines_are_kept(manifest):
    proof = GraphProof(images=4, max_error={"features": 0.1}, mean_error={}, flips=0, near_threshold=0)
    full = sealed(
        msgspec.structs.replace(
            manifest,
            graphs=(*manifest.graphs, encoder()),
            engines=(Engine(**ENGINE),),
            proof=msgspec.structs.replace(
                manifest.proof, graphs={**manifest.proof.graphs, "vision_encoder.fp16": proof}
            ),
            files={**manifest.files, "graphs/vision_encoder.fp16.onnx": HASH, "engines/gate.engine": HASH},
        )
    )
    assert parse_manifest(manifest_bytes(full)) == full
    assert not full.graphs[1].decides


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tolerance": {}}, "no tolerance for features"),
        ({"outputs": (), "tolerance": {}}, "no tolerance"),
        ({"role": "projected_head"}, "type_logits, level_logprobs"),
        ({"weights": "graphs/a.bin"}, "weights is"),
        ({"backend": "openvino"}, "weights is"),
    ],
)
def test_a_graph_that_cannot_be_checked_or_run_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        encoder(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compute_capabilities": ()}, "compute_capabilities"),
        ({"compute_capabilities": ("sm86",)}, "compute_capabilities"),
        ({"onnx_sha256": "0"}, "sha256"),
        ({"onnx_sha256": "sha256:" + "1" * 64}, "built of sha256:1{64}, but gate.fp32 is sha256:"),
        ({"size": 0}, "size"),
        ({"profile": {"pixel_values": ((8, 3), (1, 3), (32, 3))}}, "profile of pixel_values"),
        ({"profile": {"pixel_values": ((1, 3), (1, 3, 8), (32, 3))}}, "profile of pixel_values"),
        ({"graph": "gate.int8"}, "was built of 'gate.int8'"),
        ({"id": "gate.fp32"}, "each id may stand only once"),
        ({"file": "engines/other.engine"}, "engines/other.engine not listed"),
    ],
)
def test_an_engine_that_does_not_fit_is_refused(manifest, changes, message):
    def edit(plain):
        plain["engines"] = [ENGINE | changes]
        plain["files"]["engines/gate.engine"] = HASH

    with pytest.raises(ManifestError, match=message):
        parse_manifest(resealed(manifest, edit))


def test_flips_by_category_add_up():
    with pytest.raises(ValueError, match="there were 2 flips"):
        GraphProof(images=4, max_error={}, mean_error={}, flips=2, near_threshold=0, flips_by_category={"privacy": 1})


def test_bytes_that_are_no_json():
    for data in (b"", b"{", b"[]", b"\xff", b"[" * 100_000):
        with pytest.raises(ManifestError):
            parse_manifest(data)


def golden():
    return Golden(
        images=(np.zeros((4, 5, 3), np.uint8), np.ones((2, 2, 3), np.uint8)),
        features=np.zeros((1, 4, 8), np.float32),
        mask=np.ones((1, 4), np.bool_),
        expected={"gate.fp32": {"type_logits": np.zeros((2, 2), np.float32)}},
    )


def test_golden_vectors_read_what_they_wrote():
    data = golden_bytes(golden())
    assert data == golden_bytes(golden())
    found = parse_golden(data)
    assert [image.shape for image in found.images] == [(4, 5, 3), (2, 2, 3)]
    assert found.expected["gate.fp32"]["type_logits"].shape == (2, 2)


def test_golden_vectors_hold_no_objects(tmp_path):
    np.savez(tmp_path / "evil.npz", **{"image:00": np.array([{"a": 1}], dtype=object)})
    for data in (b"", b"PK", (tmp_path / "evil.npz").read_bytes()):
        with pytest.raises(ManifestError, match="golden"):
            parse_golden(data)
