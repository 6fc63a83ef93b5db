"""Several gates under their policies, for one source on one day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from safevlm_sdk.errors import BundleError, PolicyError
from safevlm_sdk.manifest import Manifest
from safevlm_sdk.policy import Policy
from safevlm_sdk.policy_fit import wanted_elsewhere
from safevlm_sdk.safety_prompt import RISKY_LEVELS, safety_prompt
from safevlm_sdk.taxonomy import RiskLevel
from safevlm_sdk.told_words import check_words

Prompts = Mapping[tuple[str, RiskLevel], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """What several gates are together, fixed while an image is judged.

    Attributes:
        names: One per gate; unequal.
        covered: Risks that are looked for: some gate was trained to see them and its policy wants them.
        uncovered: Risks that some policy wants and no gate covers.
        policies: What each gate's policy says of this source on this day.
        prompts: Per gate what the model is told of a category at a level.
        provider: The execution provider in use.
        bundle_digests: One per gate.
        policy_digests: One per gate, of the policy as it was written.
        notes: What every verdict's reason says: rules of a source, overrides.
    """

    names: tuple[str, ...]
    covered: tuple[str, ...]
    uncovered: tuple[str, ...]
    policies: tuple[Policy, ...]
    prompts: tuple[Prompts, ...]
    provider: str
    bundle_digests: tuple[str, ...]
    policy_digests: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def enforcing(self) -> tuple[int, ...]:
        """The gates whose policy acts."""
        return tuple(index for index, policy in enumerate(self.policies) if policy.mode == "enforce")


def panel_of(
    manifests: Sequence[Manifest],
    policies: Sequence[Policy],
    digests: Sequence[str],
    provider: str,
    notes: Iterable[str] = (),
) -> Panel:
    """Checks that bundles and policies fit each other.

    Args:
        manifests: One per gate, at least one.
        policies: One per gate, as they are for a source on a day.
        digests: One per gate, of the policy as it was written.
        provider: What runs the gates.
        notes: For the reasons of verdicts.

    Raises:
        PolicyError: A policy names a category that is in no bundle's taxonomy, or nothing would be judged.
        PolicyUncovered: A policy refuses to leave a category uncovered.
        BundleError: A bundle was given twice, or none was.
    """
    bundles = tuple(manifest.digest for manifest in manifests)
    if not bundles or len(set(bundles)) != len(bundles):
        raise BundleError(
            f"{len(bundles)} bundles with {len(set(bundles))} digests; give at least one, each only once"
        )
    seen = tuple(dict.fromkeys(label for manifest in manifests for label in manifest.rule.covered))
    pairs = list(zip(manifests, policies, strict=True))
    covered = tuple(
        dict.fromkeys(
            label for manifest, policy in pairs for label in manifest.rule.covered if label in policy.actions
        )
    )
    if not covered:
        raise PolicyError(
            f"nothing would be judged: the bundles see {', '.join(seen)}, and the policy wants "
            f"{', '.join(sorted({category for policy in policies for category in policy.actions}))}; give a policy "
            f"with [actions.{seen[0]}], or another bundle"
        )
    known = {category for manifest in manifests for category in manifest.taxonomy.categories}
    return Panel(
        names=_names(manifests),
        covered=covered,
        uncovered=tuple(sorted({name for policy in policies for name in wanted_elsewhere(policy, seen, known)})),
        policies=tuple(policies),
        prompts=tuple(_prompts(manifest, policy) for manifest, policy in pairs),
        provider=provider,
        bundle_digests=bundles,
        policy_digests=tuple(digests),
        notes=tuple(notes),
    )


def _prompts(manifest: Manifest, policy: Policy) -> Prompts:
    """Every prompt that a verdict of this gate may carry; what a bundle's author wrote is checked here."""
    prompts = {
        (category, level): safety_prompt(category, level, manifest.taxonomy, policy.prompts, policy.hints)
        for category in manifest.rule.covered
        if category in policy.actions
        for level in RISKY_LEVELS
    }
    for (category, _), words in prompts.items():
        try:
            check_words(words, where=f"the safety prompt for {category} of bundle {manifest.name!r}")
        except ValueError as problem:
            raise PolicyError(f"policy {policy.name!r}: {problem}; or write hints.{category}") from problem
    return prompts


def _names(manifests: Sequence[Manifest]) -> tuple[str, ...]:
    count = Counter(manifest.name for manifest in manifests)
    return tuple(
        manifest.name if count[manifest.name] == 1 else f"{manifest.name}@{manifest.digest[7:19]}"
        for manifest in manifests
    )
