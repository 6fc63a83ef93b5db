"""What follows from a risk: a strict TOML file that maps category and level to an action."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec

from safevlm_sdk.actions import Action, LevelActions
from safevlm_sdk.errors import PolicyError
from safevlm_sdk.policy_parts import Hysteresis, Override, SourceRules, check_hint
from safevlm_sdk.safety_prompt import Prompts
from safevlm_sdk.strict import canonical_json, digest, from_toml
from safevlm_sdk.taxonomy import SAFE, Taxonomy, load_taxonomy
from safevlm_sdk.told_words import check_words

__all__ = [
    "DEFAULT_REFUSAL",
    "Action",
    "Hysteresis",
    "LevelActions",
    "Override",
    "Policy",
    "Prompts",
    "SourceRules",
    "checked",
    "default_policy_text",
    "load_policy",
    "parse_policy",
]


MAX_SOURCES = 1000
MAX_OVERRIDES = 100
DEFAULT_REFUSAL = "I cannot help with this image."

_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NO_WORD = re.compile(r"[^\w.-]+")
# Keys that came later. A policy without them has the digest that it had before they existed.
_LATER: dict[str, object] = {
    "mode": "enforce",
    "refusal": DEFAULT_REFUSAL,
    "prompts": {},
    "hints": {},
    "sources": {},
    "hysteresis": None,
    "overrides": (),
}
# Words and mode decide nothing: thresholds that were calibrated without them are calibrated with them.
_TELLING = ("mode", "refusal", "prompts", "hints")


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An operator's decisions. A category without an entry in `actions` is switched off.

    Attributes:
        schema: The version of this file format.
        name: A name for reports.
        uncovered: What follows when no loaded bundle covers a category of `actions`: judge what is covered
            ("allow"), turn every ALLOW into CAUTION ("caution"), or refuse to load ("refuse").
        actions: Category to actions per level; these are the categories that are wanted.
        on_error: The action when the gate itself failed.
        thresholds: Category to threshold in (0, 1], instead of the bundle's.
        any_threshold: Threshold on the score in (0, 1], instead of the bundle's.
        frames: "one" refuses an image with several frames, "all" judges every frame.
        mpo: "refuse" refuses multi-picture JPEG files, "judge" judges every picture in them.
        mode: "enforce" acts; "observe" judges and tells, and every verdict allows.
        refusal: What is answered in the place of the model, where an image is blocked.
        prompts: What the model is told of a cautioned image, by level.
        hints: Category to hint, instead of the shipped one.
        sources: Source to its own rules.
        hysteresis: How camera frames that follow one another vote; None: each stands for itself.
        overrides: Other rules for a category until a day; the first that names a category and has not expired counts.
    """

    schema: Literal[1]
    name: str
    uncovered: Literal["allow", "caution", "refuse"]
    actions: dict[str, LevelActions]
    on_error: Literal["block", "caution"] = "block"
    thresholds: dict[str, float] = {}
    any_threshold: float | None = None
    frames: Literal["one", "all"] = "one"
    mpo: Literal["refuse", "judge"] = "refuse"
    mode: Literal["enforce", "observe"] = "enforce"
    refusal: str = DEFAULT_REFUSAL
    prompts: Prompts = Prompts()
    hints: dict[str, str] = {}
    sources: dict[str, SourceRules] = {}
    hysteresis: Hysteresis | None = None
    overrides: tuple[Override, ...] = ()

    def __post_init__(self) -> None:
        if not self.actions:
            raise ValueError("`actions` is empty: name at least one category to judge, as [actions.privacy]")
        if SAFE in self.actions:
            raise ValueError("`safe` is not a risk and takes no actions: remove [actions.safe]")
        self._check_thresholds(self.thresholds, self.any_threshold, "")
        check_words(self.refusal, where="refusal")
        for category, hint in self.hints.items():
            self._check_category(category, f"hints.{category}")
            check_hint(hint, where=f"hints.{category}")
        if len(self.sources) > MAX_SOURCES or len(self.overrides) > MAX_OVERRIDES:
            raise ValueError(f"more than {MAX_SOURCES} sources or {MAX_OVERRIDES} overrides: use several policies")
        for name, rules in self.sources.items():
            self._check_source(name, rules)
        for override in self.overrides:
            self._check_category(override.category, "overrides")
        if {override.category for override in self.overrides if override.off} == set(self.actions):
            raise ValueError("the overrides switch every category off: leave one to judge")

    def _check_source(self, name: str, rules: SourceRules) -> None:
        if not _SOURCE.fullmatch(name):
            raise ValueError(f"source {name!a}: use up to 64 letters, digits, dots, dashes and underscores")
        self._check_thresholds(rules.thresholds, rules.any_threshold, f"sources.{name}.")
        for category in rules.actions:
            self._check_category(category, f"sources.{name}.actions.{category}")

    def _check_thresholds(self, thresholds: dict[str, float], any_threshold: float | None, where: str) -> None:
        for category, threshold in thresholds.items():
            self._check_category(category, f"{where}thresholds.{category}")
            if not 0.0 < threshold <= 1.0:
                raise ValueError(f"{where}thresholds.{category} is {threshold}; it must lie in (0, 1]")
        if any_threshold is not None and not 0.0 < any_threshold <= 1.0:
            raise ValueError(f"{where}any_threshold is {any_threshold}; it must lie in (0, 1]")

    def _check_category(self, category: str, where: str) -> None:
        if category not in self.actions:
            raise ValueError(f"{where}: there is no [actions.{category}]")

    @property
    def digest(self) -> str:
        """`sha256:…` of the policy's canonical JSON: two files that say the same have one digest."""
        return digest(canonical_json(_without(self, ())))

    @property
    def deciding_digest(self) -> str:
        """The digest of the policy without mode and words: equal for policies that decide alike."""
        return digest(canonical_json(_without(self, _TELLING)))

    @property
    def error_action(self) -> Action:
        """The action when the gate itself failed."""
        return Action(self.on_error)

    def uncovered_by(self, covered: Iterable[str]) -> tuple[str, ...]:
        """The wanted categories that are not among `covered`, sorted."""
        return tuple(sorted(set(self.actions) - set(covered)))


def _without(policy: Policy, left_out: tuple[str, ...]) -> dict[str, object]:
    """Plain values, without some keys and without later keys that say nothing."""
    plain: dict[str, object] = msgspec.to_builtins(policy)
    shipped = msgspec.structs.asdict(Prompts())
    words = msgspec.structs.asdict(policy.prompts)
    plain["prompts"] = {name: text for name, text in words.items() if text != shipped[name]}
    return {
        key: value
        for key, value in plain.items()
        if key not in left_out and not (key in _LATER and value == _LATER[key])
    }


def checked(policy: Policy) -> Policy:
    """A copy that went through the same checks as a file; whoever holds the original cannot change it.

    Raises:
        PolicyError: A value is not valid.
    """
    try:
        return msgspec.convert(msgspec.to_builtins(policy), Policy, strict=True)
    except (msgspec.ValidationError, TypeError) as problem:
        raise PolicyError(f"policy: {problem}") from problem


def parse_policy(text: str | bytes, *, where: str = "policy") -> Policy:
    """Reads a policy from TOML text.

    Raises:
        PolicyError: The text is no valid policy; the message names the field.
    """
    return from_toml(text, Policy, error=PolicyError, where=where)


def load_policy(path: str | Path) -> Policy:
    """Reads a policy from a TOML file.

    Raises:
        PolicyError: The file cannot be read or is no valid policy.
    """
    try:
        text = Path(path).read_bytes()
    except OSError as problem:
        raise PolicyError(f"{path}: cannot be read ({problem.strerror})") from problem
    return parse_policy(text, where=str(path))


def default_policy_text(taxonomy: Taxonomy | None = None) -> bytes:
    """The TOML text of the default policy: what is decided by where nobody chose a policy.

    Args:
        taxonomy: What the gate's categories are; None for the shipped one. A taxonomy with other categories than the
            shipped one has a default policy that names each of them.
    """
    policies = resources.files("safevlm_sdk") / "policies"
    if taxonomy is None or set(taxonomy.categories) == set(load_taxonomy().categories):
        return (policies / "default.toml").read_bytes()
    name = _NO_WORD.sub("-", taxonomy.name)
    head = (policies / "own_taxonomy.toml").read_text(encoding="utf-8").replace("NAME", name)
    tables = (
        f'\n[actions.{_key(category)}]\nlow = "caution"\nmedium = "caution"\nhigh = "block"\n'
        for category in taxonomy.categories
    )
    return (head + "".join(tables)).encode("utf-8")


def _key(category: str) -> str:
    """A category, which is an identifier, as a key of TOML."""
    return category if category.isascii() else f'"{category}"'
