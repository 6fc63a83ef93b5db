"""The last steps of every export: the card, the written folder, and an image judged with what was written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safevlm_export.proving import ENGINE_SECONDS, Judgement, Proven
from safevlm_export.report import ExportReport
from safevlm_runtime.bundle.contract import choose_graph
from safevlm_runtime.runtime import Runtime
from safevlm_sdk.bundle_card import bundle_card
from safevlm_sdk.bundle_writer import BundleParts, bundle_files, write_bundle
from safevlm_sdk.calibration.note import other_policy
from safevlm_sdk.decision import decide
from safevlm_sdk.errors import PolicyError, ProofFailed
from safevlm_sdk.evaluation_record import EvaluationRecord
from safevlm_sdk.manifest import DECISION_OUTPUTS, GATE, Manifest
from safevlm_sdk.margins import said
from safevlm_sdk.policy import Policy, default_policy_text, parse_policy
from safevlm_sdk.policy_fit import require_judged, wanted_elsewhere
from safevlm_sdk.taxonomy import Taxonomy

CPU = "CPUExecutionProvider"


def shipped_policy(path: Path | None, taxonomy: Taxonomy, covered: Sequence[str]) -> tuple[bytes, Policy]:
    """The policy that ships, as text and read; it is checked here, since proving takes minutes.

    Args:
        path: A TOML file; None for the taxonomy's default policy.
        taxonomy: Of the bundle.
        covered: Risks that the gate sees.

    Raises:
        PolicyError: It cannot be read, is not valid, or a bundle with it could not be loaded.
        PolicyUncovered: It refuses to leave a category uncovered.
    """
    if path is None:
        text, where = default_policy_text(taxonomy), "the default policy"
    else:
        try:
            text, where = path.read_bytes(), str(path)
        except OSError as problem:
            raise PolicyError(f"{path}: cannot be read ({problem.strerror})") from problem
    policy = parse_policy(text, where=where)
    require_judged(policy, covered, whose="the gate")
    wanted_elsewhere(policy, covered, taxonomy.categories)
    return text, policy


def finish(
    out: Path,
    manifest: Manifest,
    proven: Proven,
    judgement: Judgement,
    policy_text: bytes,
    *,
    evaluation: EvaluationRecord | None = None,
    warnings: tuple[str, ...] = (),
) -> ExportReport:
    """Writes the bundle, loads it as a user would, and puts it in place.

    Args:
        out: The bundle's folder.
        manifest: Complete but for its digest and the digests of its files.
        proven: Its graphs.
        judgement: How they were proven.
        policy_text: Of the policy that ships.
        evaluation: For the card.
        warnings: For the report.

    Raises:
        ProofFailed: The runtime decides otherwise than the proof; `out` is untouched.
        ExportError: `out` cannot be written.
        BundleError: The runtime refuses what was written; `out` is untouched.
    """
    elsewhere = other_policy(manifest.calibration, judgement.policy)
    warnings += () if elsewhere is None else (elsewhere,)
    card = bundle_card(manifest, judgement.policy, evaluation)
    parts = BundleParts(manifest=manifest, graphs=proven.data, golden=proven.golden, policy=policy_text, card=card)
    written = write_bundle(out, parts, check=lambda folder: _judge_one(folder, proven, judgement, manifest))
    sizes = {path: len(data) for path, data in bundle_files(parts).items()}
    return ExportReport(out=out, manifest=written, results=proven.results, sizes=sizes, warnings=warnings)


def _judge_one(folder: Path, proven: Proven, judgement: Judgement, manifest: Manifest) -> None:
    """Loads the bundle as a user would, and compares its verdict on the first golden image with the proof's."""
    golden = proven.golden
    gate = choose_graph(manifest, GATE, CPU, None)
    if gate is None:
        raise ProofFailed("there is no gate that the processor runs; nothing was written: report it")
    types, levels = (golden.expected[gate.id][name][0] for name in DECISION_OUTPUTS)
    wanted = decide(types, levels, judgement.rule, judgement.policy)
    unproven = manifest.proof.kind == "numeric"
    with Runtime.load(folder, allow_uncalibrated=unproven, engine_seconds=ENGINE_SECONDS) as runtime:
        verdict = runtime.check(golden.images[0])
    found = (verdict.error, verdict.category, verdict.level, verdict.action)
    if found != said(wanted):
        raise ProofFailed(
            f"the runtime says {found} of the first golden image, but the original says {said(wanted)}; nothing was "
            "written: is another version of safevlm-sdk installed?"
        )
