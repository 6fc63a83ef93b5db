"""From what each gate found to one verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from safevlm_runtime.gate import Gate
from safevlm_runtime.views import Found
from safevlm_sdk.decision import Decision, fuse
from safevlm_sdk.errors import BundleError, PolicyError, PolicyUncovered
from safevlm_sdk.policy import Action
from safevlm_sdk.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """What several gates are together, fixed when they are loaded.

    Attributes:
        names: One per gate; unequal.
        covered: Risks that are looked for: some gate was trained to see them and its policy wants them.
        uncovered: Risks that some policy wants and no gate covers.
        cautious: Some policy turns ALLOW into CAUTION because of them.
        error_action: The most severe `on_error` of all policies.
        provider: The execution provider in use.
        bundle_digests: One per gate.
        policy_digests: One per gate.
    """

    names: tuple[str, ...]
    covered: tuple[str, ...]
    uncovered: tuple[str, ...]
    cautious: bool
    error_action: Action
    provider: str
    bundle_digests: tuple[str, ...]
    policy_digests: tuple[str, ...]


def panel_of(gates: Sequence[Gate]) -> Panel:
    """Checks that gates and policies fit each other.

    Raises:
        PolicyError: A policy names a category that is in no bundle's taxonomy.
        PolicyUncovered: A policy refuses to leave a category uncovered.
        BundleError: A bundle was given twice, or none was.
    """
    digests = tuple(gate.manifest.digest for gate in gates)
    if not gates or len(set(digests)) != len(digests):
        raise BundleError(f"{len(gates)} bundles with {len(set(digests))} digests; give at least one, each only once")
    known = {category for gate in gates for category in gate.manifest.taxonomy.categories}
    seen = tuple(dict.fromkeys(label for gate in gates for label in gate.rule.covered))
    covered = tuple(
        dict.fromkeys(label for gate in gates for label in gate.rule.covered if label in gate.policy.actions)
    )
    if not covered:
        raise PolicyError(
            f"nothing would be judged: the bundles see {', '.join(seen)}, and the policy wants "
            f"{', '.join(sorted({c for gate in gates for c in gate.policy.actions}))}"
        )
    uncovered: set[str] = set()
    cautious = False
    for policy in (gate.policy for gate in gates):
        strange = sorted(set(policy.actions) - known)
        if strange:
            raise PolicyError(f"policy {policy.name!r} names {', '.join(strange)}; the bundles know {sorted(known)}")
        missing = policy.uncovered_by(seen)
        if missing and policy.uncovered == "refuse":
            raise PolicyUncovered(
                f"policy {policy.name!r} wants {', '.join(missing)}, which no loaded bundle covers; load one that "
                "does, remove the category, or say uncovered = 'caution' or 'allow'"
            )
        cautious = cautious or bool(missing and policy.uncovered == "caution")
        uncovered.update(missing)
    return Panel(
        names=_names(gates),
        covered=covered,
        uncovered=tuple(sorted(uncovered)),
        cautious=cautious,
        error_action=max((gate.policy.error_action for gate in gates), key=lambda action: action.severity),
        provider=gates[0].provider,
        bundle_digests=digests,
        policy_digests=tuple(gate.policy.digest for gate in gates),
    )


def verdict_of(
    panel: Panel, found: Sequence[Found], timings_ms: Mapping[str, float], source_sha256: str | None
) -> Verdict:
    """The verdict on one image from what each gate found, in the order of the gates."""
    index, chosen = fuse([one.decision for one in found])
    winner = found[index]
    if len(found) > 1:
        chosen = replace(chosen, reason=f"{panel.names[index]}: {chosen.reason}")
    action, reason = chosen.action, chosen.reason
    if panel.cautious and action is Action.ALLOW:
        action, reason = Action.CAUTION, f"{reason}; not looked for: {', '.join(panel.uncovered)}"
    good = chosen.error is None
    return Verdict(
        action=action,
        category=chosen.category,
        level=chosen.level,
        score=chosen.score,
        categories=_merged(panel.names, [one.decision for one in found]) if good else {},
        covered=panel.covered,
        uncovered=panel.uncovered,
        error=chosen.error,
        reason=reason,
        timings_ms=dict(timings_ms),
        provider=panel.provider,
        source_sha256=source_sha256,
        raster_sha256=winner.sha256,
        bundle_digests=panel.bundle_digests,
        policy_digests=panel.policy_digests,
        attention=winner.attention,
    )


def failed_verdict(
    panel: Panel, failure: tuple[str, str], timings_ms: Mapping[str, float], source_sha256: str | None, *, ran: bool
) -> Verdict:
    """The verdict when nothing could be judged: the most severe `on_error`, with no risk claimed.

    Args:
        panel: Of the gates.
        failure: (code, reason).
        timings_ms: Times so far.
        source_sha256: Of the encoded bytes, if they were read.
        ran: A graph was tried.
    """
    code, reason = failure
    return Verdict(
        action=panel.error_action,
        category=None,
        level=None,
        score=None,
        categories={},
        covered=panel.covered,
        uncovered=panel.uncovered,
        error=code,
        reason=reason,
        timings_ms=dict(timings_ms),
        provider=panel.provider if ran else None,
        source_sha256=source_sha256,
        raster_sha256=None,
        bundle_digests=panel.bundle_digests,
        policy_digests=panel.policy_digests,
    )


def with_total(verdict: Verdict, total_ms: float) -> Verdict:
    """The verdict with the wall time of the whole check."""
    return replace(verdict, timings_ms={**verdict.timings_ms, "total": total_ms})


def _names(gates: Iterable[Gate]) -> tuple[str, ...]:
    manifests = [gate.manifest for gate in gates]
    count = Counter(manifest.name for manifest in manifests)
    return tuple(
        manifest.name if count[manifest.name] == 1 else f"{manifest.name}@{manifest.digest[7:19]}"
        for manifest in manifests
    )


def _merged(names: Sequence[str], decisions: Sequence[Decision]) -> dict[str, float]:
    """All probabilities; a category that several bundles have is told apart as `bundle/category`."""
    count = Counter(category for decision in decisions for category in decision.categories)
    return {
        category if count[category] == 1 else f"{name}/{category}": value
        for name, decision in zip(names, decisions, strict=True)
        for category, value in decision.categories.items()
    }
