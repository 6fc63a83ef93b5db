"""What a runtime says of itself."""

from __future__ import annotations

from safevlm_runtime.guard.shared_tower import FeatureSource, feature_source
from safevlm_runtime.judging.checker import Checker
from safevlm_runtime.judging.rulebook import Rulebook
from safevlm_sdk.policy import Policy, checked
from safevlm_sdk.raster import Limits


class Described:
    """The read-only side of `Runtime`: bundles, policies in force, and what is looked for."""

    _rules: Rulebook
    _checker: Checker

    @property
    def covered(self) -> tuple[str, ...]:
        """The risks that are looked for: some bundle was trained to see them and its policy wants them."""
        return self._rules.panel().covered

    @property
    def uncovered(self) -> tuple[str, ...]:
        """The risks that some policy wants and no bundle covers."""
        return self._rules.panel().uncovered

    @property
    def bundles(self) -> tuple[str, ...]:
        """The bundles' names."""
        return self._rules.panel().names

    @property
    def digests(self) -> tuple[str, ...]:
        """The bundles' digests."""
        return self._rules.panel().bundle_digests

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The policy of each bundle, as it was written; copies, for a policy does not change while it is applied."""
        return tuple(checked(policy) for policy in self._rules.policies)

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources that some policy has rules for; the general rules hold for any other."""
        return tuple(dict.fromkeys(name for policy in self._rules.policies for name in policy.sources))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What whoever relies on the verdicts should know: thresholds not as calibrated, overrides that expired."""
        return self._rules.warnings()

    @property
    def provider(self) -> str:
        """The execution provider in use."""
        return self._rules.panel().provider

    @property
    def raster_max_side(self) -> int:
        """Longer side, in pixels, to which larger images are shrunk before they are judged."""
        return self._checker.max_side

    @property
    def limits(self) -> Limits:
        """What an image may cost, with `frames` and `mpo` as the policies have them."""
        return self._rules.limits

    @property
    def feature_sources(self) -> tuple[FeatureSource | None, ...]:
        """Per bundle whose features `check_features` takes; None where it takes pixels only."""
        return tuple(feature_source(gate.manifest) for gate in self._checker.gates)
