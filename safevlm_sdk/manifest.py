"""The manifest of a bundle: everything a decision depends on, in one strict, versioned, canonical JSON file."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Literal

import msgspec

from safevlm_sdk.calibration.record import CalibrationRecord
from safevlm_sdk.decision import Activation, Rule
from safevlm_sdk.errors import ManifestError
from safevlm_sdk.manifest_graphs import (
    DECIDING_ROLES,
    DECISION_OUTPUTS,
    GATE,
    IMAGE_ROLES,
    PROJECTED_HEAD,
    RGB_GATE,
    SAFETY_HEAD,
    SAFETY_PROJECTOR,
    VISION_ENCODER,
    Engine,
    Graph,
    GraphProof,
    Precision,
    Role,
    TensorSpec,
)
from safevlm_sdk.preprocess import Preprocessing
from safevlm_sdk.strict import Strict, canonical_json, digest, from_json
from safevlm_sdk.taxonomy import SAFE, Taxonomy
from safevlm_sdk.view_plan import MAX_SIDE, ViewPlan, check_edges

MANIFEST_FILE = "manifest.json"
GOLDEN_FILE = "golden.npz"
POLICY_FILE = "policy.toml"
CARD_FILE = "README.md"
SIGNATURE_FILE = "SIGNATURE"
MAX_GOLDEN = 16

__all__ = [
    "CARD_FILE",
    "DECIDING_ROLES",
    "DECISION_OUTPUTS",
    "GATE",
    "GOLDEN_FILE",
    "IMAGE_ROLES",
    "MANIFEST_FILE",
    "MAX_GOLDEN",
    "MAX_SIDE",
    "POLICY_FILE",
    "PROJECTED_HEAD",
    "RGB_GATE",
    "SAFETY_HEAD",
    "SAFETY_PROJECTOR",
    "SIGNATURE_FILE",
    "VISION_ENCODER",
    "Calibration",
    "Engine",
    "Graph",
    "GraphProof",
    "Identity",
    "Manifest",
    "Precision",
    "Proof",
    "Role",
    "TensorSpec",
    "Thresholds",
    "ViewPlan",
    "manifest_bytes",
    "manifest_digest",
    "parse_manifest",
    "sealed",
]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Identity(Strict, frozen=True):
    """Where the weights come from.

    A bundle of an existing image classifier has no tap, grid or feature width: its gate takes pixels, gives neither
    features nor attention, and no verdict of it has a heatmap.

    Attributes:
        tower: The vision tower, as `efficientnet-lite0` or a Hugging Face id or folder name; or the classifier.
        tower_digest: Digest of the tower's weights and configuration; or of the classifier.
        checkpoint_digest: Digest of the SafeVLM checkpoint that was exported; or of classifier and label map.
        tap: Where features are taken, as "hidden:-1" or "projected".
        grid: (rows, columns) of the patch tokens.
        feature_width: D of the features [N, T, D].
    """

    tower: str
    tower_digest: str
    checkpoint_digest: str
    tap: str | None
    grid: tuple[int, int] | None
    feature_width: int | None

    def __post_init__(self) -> None:
        if self.tap is None or self.grid is None or self.feature_width is None:
            if (self.tap, self.grid, self.feature_width) != (None, None, None):
                raise ValueError("tap, grid and feature_width belong together: all are given, or none is")
        elif not all(1 <= size <= MAX_SIDE for size in (*self.grid, self.feature_width)):
            raise ValueError(f"grid {self.grid} or feature_width {self.feature_width} is not in 1 to {MAX_SIDE}")

    @property
    def is_classifier(self) -> bool:
        """Whether the gate is an existing image classifier, without features."""
        return self.tap is None


class Calibration(Strict, frozen=True, omit_defaults=True):
    """How probabilities and thresholds came about; counts are of independent groups of images.

    `method` is "stated" where whoever exported gave the thresholds, with no evidence in the bundle. `record` stands
    only where `safevlm calibrate` set the thresholds.
    """

    method: Literal["none", "stated", "temperature"]
    temperature: float
    risky_groups: int
    safe_groups: int
    note: str
    record: CalibrationRecord | None = None

    def __post_init__(self) -> None:
        if not 1e-3 <= self.temperature <= 1e3:
            raise ValueError(f"temperature is {self.temperature}; it must lie in 0.001 to 1000")
        if min(self.risky_groups, self.safe_groups) < 0:
            raise ValueError("risky_groups and safe_groups are counts; they cannot be negative")


class Thresholds(Strict, frozen=True):
    """Per-category thresholds and the threshold on the score, each in (0, 1]."""

    categories: dict[str, float]
    any: float

    def __post_init__(self) -> None:
        for name, value in [*self.categories.items(), ("any", self.any)]:
            if not 0.0 < value <= 1.0:
                raise ValueError(f"thresholds.{name} is {value}; it must lie in (0, 1]")


class Proof(Strict, frozen=True):
    """Evidence that the exported graphs decide as the checkpoint does.

    Attributes:
        kind: "decisions" for trained, thresholded weights; "numeric" for weights that decide nothing yet.
        source: What the images were.
        graphs: Graph id to its result.
    """

    kind: Literal["decisions", "numeric"]
    source: str
    graphs: dict[str, GraphProof]


class Manifest(Strict, frozen=True, omit_defaults=True):
    """The whole manifest; `files` lists every file of the bundle but itself and SIGNATURE.

    Attributes:
        schema_version: Of this format.
        digest: sha256 of the canonical JSON without this field; it is the bundle's identity.
        name: A name for people.
        license: SPDX expression of the weights.
        identity: Where the weights come from.
        taxonomy: The categories and levels.
        coverage: Covered risk to what is claimed for it.
        labels: Names of the type logits in order.
        activation: How logits become probabilities.
        preprocessing: From raster to tensor.
        view_plan: At which scale the gate looks.
        calibration: How probabilities and thresholds came about.
        thresholds: The shipped thresholds; they stand nowhere else.
        graphs: The executable graphs.
        proof: Evidence that they decide as the checkpoint does.
        files: Path inside the bundle to `sha256:…` of its bytes.
        engines: What was built of the graphs for one kind of device.
    """

    schema_version: Literal[1]
    digest: str
    name: str
    license: str
    identity: Identity
    taxonomy: Taxonomy
    coverage: dict[str, str]
    labels: tuple[str, ...]
    activation: Activation
    preprocessing: Preprocessing
    view_plan: ViewPlan
    calibration: Calibration
    thresholds: Thresholds
    graphs: tuple[Graph, ...]
    proof: Proof
    files: dict[str, str]
    engines: tuple[Engine, ...] = ()

    def __post_init__(self) -> None:
        _check_labels(self)
        _check_files(self)
        _check_graphs(self)
        _check_views(self)
        smallest = max(self.preprocessing.height, self.preprocessing.width)
        if self.view_plan.raster_max_side < smallest:
            raise ValueError(
                f"view_plan.raster_max_side is {self.view_plan.raster_max_side}; the graph takes {smallest} pixels"
            )
        if not self.name.isprintable() or not 1 <= len(self.name) <= 100:
            raise ValueError("name must be 1 to 100 printable characters on one line")

    @property
    def rule(self) -> Rule:
        """The bundle's side of a decision."""
        return Rule(
            labels=self.labels,
            activation=self.activation,
            temperature=self.calibration.temperature,
            thresholds=self.thresholds.categories,
            any_threshold=self.thresholds.any,
        )


def _check_labels(manifest: Manifest) -> None:
    risks = [label for label in manifest.labels if label != SAFE]
    wants_safe = manifest.activation == "softmax"
    if not risks or len(set(manifest.labels)) != len(manifest.labels):
        raise ValueError(f"labels are {list(manifest.labels)}; name at least one risk, and each only once")
    if (SAFE in manifest.labels) != wants_safe:
        raise ValueError("`safe` is a label for softmax and not for sigmoid")
    for name, found in (("coverage", manifest.coverage), ("thresholds", manifest.thresholds.categories)):
        if set(found) != set(risks):
            raise ValueError(f"{name} names {sorted(found)}, but the labels are {sorted(risks)}")
    unknown = set(risks) - set(manifest.taxonomy.categories)
    if unknown:
        raise ValueError(f"labels {sorted(unknown)} are not in taxonomy {manifest.taxonomy.name!r}")


def _check_files(manifest: Manifest) -> None:
    for path, hashed in manifest.files.items():
        parts = PurePosixPath(path).parts
        plain = re.fullmatch(r"[A-Za-z0-9._/-]+", path) and "/".join(parts) == path
        if not plain or path.startswith("/") or ".." in parts or path in (MANIFEST_FILE, SIGNATURE_FILE):
            raise ValueError(f"files: {path!r} is not a plain path inside the bundle")
        if not _DIGEST.fullmatch(hashed):
            raise ValueError(f"files: {path} has no `sha256:` digest")
    files_of_graphs = (file for graph in manifest.graphs for file in graph.files)
    needed = (GOLDEN_FILE, POLICY_FILE, CARD_FILE, *files_of_graphs, *(engine.file for engine in manifest.engines))
    missing = [path for path in needed if path not in manifest.files]
    if missing:
        raise ValueError(f"files: {', '.join(missing)} not listed")


def _check_graphs(manifest: Manifest) -> None:
    ids = [graph.id for graph in manifest.graphs]
    if GATE not in {graph.role for graph in manifest.graphs} or len(set(ids)) != len(ids):
        raise ValueError(f"graphs are {ids}; there must be a gate, and each id only once")
    if set(manifest.proof.graphs) != set(ids):
        raise ValueError(f"proof is of {sorted(manifest.proof.graphs)}, but the graphs are {sorted(ids)}")
    engines = [engine.id for engine in manifest.engines]
    if len({*ids, *engines}) != len(ids) + len(engines):
        raise ValueError(f"engines are {engines} and graphs are {ids}; each id may stand only once")
    listed = {graph.id: manifest.files[graph.file] for graph in manifest.graphs}
    for engine in manifest.engines:
        if engine.graph not in listed:
            raise ValueError(f"engine {engine.id} was built of {engine.graph!r}, but the graphs are {ids}")
        if engine.onnx_sha256 != listed[engine.graph]:
            raise ValueError(
                f"engine {engine.id} was built of {engine.onnx_sha256}, but {engine.graph} is "
                f"{listed[engine.graph]}; build it anew"
            )


def _check_views(manifest: Manifest) -> None:
    """Thresholds hold for the views that they were set on, and tiles must be seen to their edges."""
    plan, record = manifest.view_plan, manifest.calibration.record
    under = None if record is None else record.view_plan
    if under != plan and (plan.tile is not None or under is not None):
        raise ValueError("view_plan is not the one that the thresholds were set under; set them with it")
    check_edges(plan, manifest.preprocessing)


def manifest_digest(manifest: Manifest) -> str:
    """The digest that `manifest.digest` must be: of its canonical JSON without that field."""
    plain = msgspec.to_builtins(manifest)
    del plain["digest"]
    return digest(canonical_json(plain))


def sealed(manifest: Manifest) -> Manifest:
    """The same manifest with its digest filled in."""
    return msgspec.structs.replace(manifest, digest=manifest_digest(manifest))


def manifest_bytes(manifest: Manifest) -> bytes:
    """The bytes of `manifest.json`."""
    return canonical_json(manifest)


def parse_manifest(data: bytes, *, where: str = MANIFEST_FILE) -> Manifest:
    """Reads and checks a manifest.

    Raises:
        ManifestError: Not valid, not canonical, or its digest does not fit; the message names the field.
    """
    manifest = from_json(data, Manifest, error=ManifestError, where=where)
    expected = manifest_digest(manifest)
    if manifest.digest != expected:
        raise ManifestError(f"{where}: digest is {manifest.digest}, but the content's is {expected}")
    return manifest
