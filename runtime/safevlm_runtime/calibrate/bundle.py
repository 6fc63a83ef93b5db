"""From a bundle and the operator's images to the same bundle with thresholds of its own."""

from __future__ import annotations

from pathlib import Path

import msgspec

from safevlm_runtime.backends.ort_backend import SessionOptions
from safevlm_runtime.bundle.reader import Bundle, read_bundle
from safevlm_runtime.calibrate.golden import still_clear
from safevlm_runtime.calibrate.judge import GateJudge
from safevlm_runtime.judging.gate import open_gate
from safevlm_runtime.runtime import Runtime
from safevlm_sdk.atomic import require_publishable
from safevlm_sdk.bundle_card import bundle_card
from safevlm_sdk.bundle_writer import BundleParts, is_bundle, write_bundle
from safevlm_sdk.calibration.page import Written, publish_page
from safevlm_sdk.calibration.request import Request, Tiling, judge_request, place_of_page
from safevlm_sdk.calibration.run import Outcome, Subject, calibrate
from safevlm_sdk.errors import CalibrationError
from safevlm_sdk.manifest import GATE, Manifest, Proof
from safevlm_sdk.policy import Policy, load_policy
from safevlm_sdk.policy_fit import require_judged
from safevlm_sdk.view_plan import ViewPlan, check_edges

ENGINE_SECONDS = 600.0
TYPE_LOGITS = "type_logits"
COUNTED_AT = "flips and images near a threshold were counted at the thresholds of the export"


def calibrate_bundle(path: Path, request: Request) -> Written:
    """Judges the images with the bundle, sets new thresholds and writes the new bundle and its page.

    Args:
        path: The bundle; it stays as it is.
        request: Images, bounds and destinations. Another bundle at `out` is replaced in one step.

    Raises:
        BundleError: The bundle is refused.
        DataError: The images cannot be read.
        CalibrationError: The bounds cannot be kept, the gate cannot look at tiles, or `out` is no place for the new
            bundle.
        PolicyError, ProviderError, MissingExtra: The gate cannot be opened.
    """
    page = place_of_page(request, path)
    require_publishable(request.out, is_bundle, error=CalibrationError)
    bundle = read_bundle(path)
    _check(bundle)
    plan = _view_plan(bundle.manifest, request.tiling)
    policy = bundle.policy if request.policy is None else load_policy(request.policy)
    require_judged(policy, bundle.manifest.rule.covered, whose="the bundle")
    options = SessionOptions(engine_seconds=ENGINE_SECONDS)
    gate = open_gate(bundle, policy=policy, options=options, allow_uncalibrated=True)  # as `_check` allows
    subject = Subject(
        name=bundle.manifest.name,
        digest=bundle.manifest.digest,
        rule=bundle.manifest.rule,
        risks=tuple(bundle.manifest.taxonomy.categories),
        policy=policy,
        logit_error=_logit_error(bundle.manifest),
        view_plan=plan,
    )
    try:
        judge = GateJudge(gate, plan)
        judged = judge_request(request, subject, judge)
    finally:
        gate.close()
    outcome = calibrate(subject, judged.data, request.demand)
    manifest = _recalibrated(bundle.manifest, outcome, plan)
    parts = BundleParts(
        manifest=manifest,
        graphs=bundle.executables,
        golden=still_clear(bundle.golden, manifest.graphs, manifest.rule, bundle.policy),
        policy=bundle.policy_text,
        card=bundle_card(manifest, bundle.policy),
    )
    written = write_bundle(request.out, parts, check=_loads, error=CalibrationError)
    notes = (*_notes(bundle, policy, len(parts.golden.images)), *_view_notes(bundle.manifest.view_plan, plan))
    result = Written(
        out=request.out,
        page=page,
        digest=written.digest,
        outcome=outcome,
        passed_over=judged.passed_over,
        proof=manifest.proof.source,
        notes=notes,
    )
    publish_page(result)
    return result


def _check(bundle: Bundle) -> None:
    # A classifier's weights were trained elsewhere: it lacks thresholds alone, and they are set here.
    if bundle.manifest.proof.kind != "decisions" and not bundle.manifest.identity.is_classifier:
        raise CalibrationError(
            f"bundle {bundle.manifest.name!r} was exported from weights without thresholds, so that none of its "
            "decisions was ever proven; calibrate the checkpoint (`safevlm calibrate CHECKPOINT`) and export it again"
        )


def _logit_error(manifest: Manifest) -> float:
    """The largest error of the type logits of any gate graph on the proof images, or what the self-test tolerates."""
    gates = [graph for graph in manifest.graphs if graph.role == GATE]
    return max(
        manifest.proof.graphs[gate.id].max_error.get(TYPE_LOGITS, gate.tolerance[TYPE_LOGITS]) for gate in gates
    )


def _view_plan(manifest: Manifest, tiling: Tiling | None) -> ViewPlan:
    """The views that the thresholds are set for."""
    if tiling is None:
        return manifest.view_plan
    try:
        plan = ViewPlan(
            raster_max_side=manifest.view_plan.raster_max_side,
            tile=tiling.tile,
            overlap=tiling.overlap,
            max_views=tiling.max_views,
        )
        check_edges(plan, manifest.preprocessing)
    except ValueError as problem:
        raise CalibrationError(f"bundle {manifest.name!r} cannot look at these tiles: {problem}") from problem
    return plan


def _recalibrated(manifest: Manifest, outcome: Outcome, plan: ViewPlan) -> Manifest:
    return msgspec.structs.replace(
        manifest,
        digest="",
        view_plan=plan,
        calibration=outcome.calibration,
        thresholds=outcome.thresholds,
        proof=_proof(manifest),
    )


def _proof(manifest: Manifest) -> Proof:
    """The proof as it was, and at which thresholds its flips were counted; errors of outputs know no threshold."""
    if COUNTED_AT in manifest.proof.source:
        return msgspec.structs.replace(manifest.proof, kind="decisions")
    at = ", ".join(f"{name} {value:.4g}" for name, value in sorted(manifest.thresholds.categories.items()))
    source = (
        f"{manifest.proof.source}; {COUNTED_AT} "
        f"({at}, any risk {manifest.thresholds.any:.4g}), before `safevlm calibrate` set those of this bundle"
    )
    return msgspec.structs.replace(manifest.proof, kind="decisions", source=source)


def _loads(folder: Path) -> None:
    """Loads the new bundle as a user would, golden self-test included."""
    Runtime.load(folder, engine_seconds=ENGINE_SECONDS).close()


def _view_notes(before: ViewPlan, after: ViewPlan) -> tuple[str, ...]:
    if before == after:
        return ()
    return (
        f"Its view plan is new: each frame is judged as a whole and in tiles of {after.tile} pixels that overlap by "
        f"{after.overlap}, by up to {after.max_views} views, and the worst of them decides. A frame that takes more "
        "views is refused; the thresholds hold for these views alone.",
    )


def _notes(bundle: Bundle, policy: Policy, golden: int) -> tuple[str, ...]:
    notes = []
    if policy.digest != bundle.policy.digest:
        notes.append(
            f"The policy {policy.name!r} is not the bundle's own, which stays in it: load the bundle with the "
            "former, or the bounds need not hold."
        )
    if bundle.signed:
        notes.append("The signature of the bundle is not carried over: it was of other thresholds. Sign the new one.")
    lost = len(bundle.golden.images) - golden
    if lost:
        notes.append(
            f"Loading tests a bundle on golden images. {lost} of {lost + golden} are no longer among them: their "
            "decision now lies so near a threshold that another machine might round it the other way. The test goes "
            f"on with the other {golden}; nothing is to be done."
        )
    return tuple(notes)
