"""The policies in force: what a reload replaces as a whole, and what one check reads once."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import replace

from safevlm_runtime.judging.panel import Panel, panel_of
from safevlm_sdk.calibration.note import policy_warnings
from safevlm_sdk.effective_policy import active_overrides, effective_policy, expired_overrides, utc_today
from safevlm_sdk.errors import PolicyError
from safevlm_sdk.hysteresis import ALONE
from safevlm_sdk.manifest import Manifest
from safevlm_sdk.policy import Hysteresis, Policy
from safevlm_sdk.raster import Limits

Today = Callable[[], datetime.date]


class Rulebook:
    """One policy per bundle, checked for every day to come; what it says does not change.

    Args:
        manifests: Of the bundles, at least one.
        policies: One per bundle.
        limits: What an image may cost; `frames` and `mpo` become the policies'.
        provider: What runs the bundles' graphs.
        today: The day in UTC.

    Raises:
        PolicyError, BundleError: Bundles and policies do not fit each other, today or on a day when overrides expire.
    """

    def __init__(
        self,
        manifests: Sequence[Manifest],
        policies: Sequence[Policy],
        *,
        limits: Limits,
        provider: str,
        today: Today = utc_today,
    ) -> None:
        self.policies = tuple(policies)
        self.limits = replace(
            limits,
            frames="all" if all(policy.frames == "all" for policy in policies) else "one",
            mpo="judge" if all(policy.mpo == "judge" for policy in policies) else "refuse",
        )
        self._manifests, self._provider, self._today = tuple(manifests), provider, today
        self._digests = tuple(policy.digest for policy in policies)
        self._sources = {name for policy in policies for name in policy.sources}
        self._ends = sorted({override.until for policy in policies for override in policy.overrides})
        self._panels: dict[tuple[int, str | None], Panel] = {}
        for period in range(len(self._ends) + 1):  # a source changes no category, so its panels fit if these do
            self._panels[period, None] = self._made(period, None)

    def panel(self, source: str | None = None) -> Panel:
        """The gates under the rules of a source today; the general rules for a source that no policy names."""
        period = 0
        if self._ends:
            today = self._today()
            period = sum(end < today for end in self._ends)
        key = (period, source if source in self._sources else None)
        panel = self._panels.get(key)
        if panel is None:
            panel = self._panels[key] = self._made(*key)
        return panel

    @property
    def hysteresis(self) -> Hysteresis:
        """How camera frames vote; each stands for itself where no policy says otherwise.

        Raises:
            PolicyError: Two policies say different things.
        """
        rules = {policy.hysteresis or ALONE for policy in self.policies}
        if len(rules) > 1:
            raise PolicyError(
                "the bundles' policies have different [hysteresis]; to watch a camera, load them with one policy"
            )
        return next(iter(rules))

    def warnings(self) -> tuple[str, ...]:
        """What whoever relies on the verdicts should know first."""
        today = self._today()
        told = [
            warning
            for manifest, policy in zip(self._manifests, self.policies, strict=True)
            for warning in (*policy_warnings(manifest, policy), *expired_overrides(policy, today))
        ]
        return tuple(dict.fromkeys(told))

    def _made(self, period: int, source: str | None) -> Panel:
        """A panel of the days up to the end of a period; the last period is behind all overrides."""
        day = self._ends[period] if period < len(self._ends) else datetime.date.max
        overrides = [() if period == len(self._ends) else active_overrides(policy, day) for policy in self.policies]
        told = dict.fromkeys(override.sentence for active in overrides for override in active)
        if source is not None:
            told = {f"rules of source {source}": None, **told}
        policies = [
            effective_policy(policy, source, active) if policy.sources or policy.overrides else policy
            for policy, active in zip(self.policies, overrides, strict=True)
        ]
        return panel_of(self._manifests, policies, self._digests, self._provider, told)
