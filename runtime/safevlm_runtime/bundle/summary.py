"""What `safevlm inspect` prints of a bundle: the lines that whoever loads it should read first."""

from __future__ import annotations

from safevlm_runtime.backends.trt.flavor import TITLES
from safevlm_runtime.bundle.reader import Bundle
from safevlm_sdk.calibration.note import other_policy
from safevlm_sdk.manifest import Engine, Graph, Identity, ViewPlan


def summary_lines(bundle: Bundle) -> list[str]:
    """About 25 lines; `describe` has everything."""
    manifest, policy = bundle.manifest, bundle.policy
    rule, calibration, preprocessing = manifest.rule, manifest.calibration, manifest.preprocessing
    groups = f"{calibration.risky_groups} risky and {calibration.safe_groups} safe groups of images"
    missing = ", ".join(policy.uncovered_by(rule.covered)) or "nothing"
    warning = other_policy(calibration, policy)
    named = [
        ("name", manifest.name),
        ("digest", manifest.digest),
        ("license", manifest.license),
        ("files", f"{len(manifest.files) + 1}, {_megabytes(bundle.size)}"),
        ("made of", _origin(manifest.identity)),
        ("looks at", f"{_views(manifest.view_plan)}, at {preprocessing.width} x {preprocessing.height} pixels"),
        *(("covers", f"{name} from {rule.thresholds[name]:g}: {manifest.coverage[name]}") for name in rule.covered),
        ("any risk", f"from {rule.any_threshold:g}"),
        ("thresholds", f"{_METHODS[calibration.method]}; {groups}"),
        ("policy", f"{policy.name}, {policy.mode}; {policy.digest}"),
        ("not covered", f"{missing} (of what the policy wants)"),
        *(("graph", _graph(bundle, graph)) for graph in manifest.graphs),
        *(("engine", _engine(engine, len(bundle.engines[engine.id]))) for engine in manifest.engines),
        ("proof", f"{manifest.proof.kind}, on {manifest.proof.source}"),
        ("self-test", f"{len(bundle.golden.images)} golden images"),
        ("signature", "there, not verified: safevlm verify --key" if bundle.signed else "none"),
        *([] if warning is None else [("warning", warning)]),
    ]
    return [f"{name:<11} {said}" for name, said in named]


_METHODS = {"none": "never calibrated", "stated": "stated by whoever exported it", "temperature": "calibrated"}


def _origin(identity: Identity) -> str:
    at = "a classifier" if identity.is_classifier else f"its {identity.tap}"
    return f"{identity.tower} ({at}), checkpoint {identity.checkpoint_digest}"


def _views(plan: ViewPlan) -> str:
    return "the whole image" if plan.tile is None else "the whole image and tiles"


def _graph(bundle: Bundle, graph: Graph) -> str:
    size = len(bundle.graphs[graph.id]) + len(bundle.weights.get(graph.id, b""))
    proof = bundle.manifest.proof.graphs[graph.id]
    target = "" if graph.target == "any" else f" for {graph.target}"
    return (
        f"{graph.id}: {graph.precision}{target}, {graph.backend}, {_megabytes(size)}; "
        f"{proof.flips} of {proof.images} proof images changed"
    )


def _engine(engine: Engine, size: int) -> str:
    built = f"{TITLES[engine.flavor]} {engine.version} for {', '.join(engine.compute_capabilities)}"
    return f"{engine.id}: of {engine.graph}, {built}, {_megabytes(size)}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
