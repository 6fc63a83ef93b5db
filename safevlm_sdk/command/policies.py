"""`safevlm policy`: a policy to begin with; is this file one, does it fit these bundles, and what does it do?"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from safevlm_sdk.command.printing import console, printable
from safevlm_sdk.effective_policy import active_overrides, effective_policy, expired_overrides, utc_today
from safevlm_sdk.errors import OptionError
from safevlm_sdk.policy import Action, Policy, default_policy_text, load_policy
from safevlm_sdk.raster import Limits
from safevlm_sdk.safety_prompt import RISKY_LEVELS, safety_prompt
from safevlm_sdk.taxonomy import Taxonomy, load_taxonomy


def print_default(
    place: Annotated[
        Path | None,
        typer.Option(
            "--for",
            help="A taxonomy (.toml), a checkpoint or a bundle: the default policy for its categories.",
        ),
    ] = None,
) -> None:
    """Print the default policy, to begin your own with: safevlm policy default > policy.toml."""
    typer.echo(default_policy_text(None if place is None else _taxonomy_of(place)), nl=False)


def _taxonomy_of(place: Path) -> Taxonomy:
    """The categories that a policy for this taxonomy, checkpoint or bundle is about."""
    found: Taxonomy
    if place.suffix == ".toml" and not place.is_dir():
        found = load_taxonomy(place)
    elif (place / "manifest.json").exists():
        found = import_module("safevlm_runtime.bundle.reader").read_bundle(place).manifest.taxonomy
    elif (place / "config.json").exists():
        found = import_module("safevlm_training.config").load_config(place).taxonomy
    else:
        raise OptionError(
            f"--for {place}: is no taxonomy (.toml), no checkpoint (config.json) and no bundle (manifest.json); give "
            "the file that [model] taxonomy names, or a folder that `safevlm train` or `safevlm-export` wrote"
        )
    return found


def check_policy(
    file: Annotated[Path, typer.Argument(help="The policy, a TOML file.")],
    bundle: Annotated[
        list[Path] | None, typer.Option("--bundle", "-b", help="A bundle that it is for; repeat for several.")
    ] = None,
    starter: Annotated[
        bool, typer.Option("--starter", help="It is for the starter that comes with the SDK.")
    ] = False,
    taxonomy: Annotated[
        str | None,
        typer.Option(help="A shipped taxonomy's name, or the path of a .toml file.", show_default="safevlm"),
    ] = None,
) -> None:
    """Check a policy file, print what it does, and warn of what it breaks.

    With --bundle or --starter, also whether it loads with them, what they do not cover, and whether their thresholds
    were calibrated under it.
    """
    if (bundle or starter) and taxonomy is not None:
        raise typer.BadParameter("a bundle brings its own taxonomy; leave --taxonomy out")
    policy = load_policy(file)
    bundles = _bundles(bundle or [], starter=starter)
    rules = None
    if bundles:
        rules = import_module("safevlm_runtime.judging.rulebook").Rulebook(
            [read.manifest for read in bundles], [policy] * len(bundles), limits=Limits(), provider="none"
        )
        known = _together([read.manifest.taxonomy for read in bundles])
    else:
        known = load_taxonomy("safevlm" if taxonomy is None else taxonomy)
        for category in policy.actions:
            known.require(category, where=f"{file}: actions.{category}")
    shown = console()
    _print_rules(shown, policy, known, bundles)
    _print_sources(shown, policy)
    _print_overrides(shown, policy)
    _print_words(shown, policy, known)
    _say(shown, f"digest: {policy.digest}")
    if rules is not None:
        _say(shown, f"looked for: {', '.join(rules.panel().covered)}; for nothing else")
        _say(shown, f"wanted but not covered: {', '.join(rules.panel().uncovered) or 'nothing'}")
    warnings = expired_overrides(policy, utc_today()) if rules is None else rules.warnings()
    for warning in warnings:
        _say(shown, f"warning: {warning}")


def _bundles(paths: list[Path], *, starter: bool) -> list[Any]:
    reader = import_module("safevlm_runtime.bundle.reader") if paths or starter else None
    if reader is None:
        return []
    folders = [*paths, *([import_module("safevlm_runtime.bundle.loading").starter_folder()] if starter else [])]
    return [reader.read_bundle(folder) for folder in folders]


def _together(taxonomies: list[Taxonomy]) -> Taxonomy:
    """One taxonomy with the categories of all; the first that has a category describes it."""
    categories = {name: entry for one in reversed(taxonomies) for name, entry in one.categories.items()}
    return Taxonomy(name=taxonomies[0].name, categories=categories)


def _print_rules(shown: Console, policy: Policy, known: Taxonomy, bundles: list[Any]) -> None:
    table = Table("category", "low", "medium", "high", "threshold", title=Text(printable(policy.name)))
    for category, actions in policy.actions.items():
        levels = (actions.at(level).value for level in RISKY_LEVELS)
        table.add_row(category, *levels, _threshold(policy, category, bundles))
    shown.print(table)
    if policy.any_threshold is not None:
        _say(shown, f"threshold on any risk: {policy.any_threshold:g}")
    off = sorted(set(known.categories) - set(policy.actions))
    _say(shown, f"switched off: {', '.join(off) or 'nothing'}")
    acts = "judges and acts" if policy.mode == "enforce" else "judges and tells; every image is allowed"
    _say(shown, f"mode: {policy.mode} ({acts})")
    _say(
        shown,
        f"uncovered: {policy.uncovered}; on error: {policy.on_error}; frames: {policy.frames}; mpo: {policy.mpo}",
    )
    if policy.hysteresis is not None:
        k, n = policy.hysteresis.k, policy.hysteresis.n
        _say(
            shown,
            f"hysteresis: {k} of the last {n} frames of a camera must call for an action; a failure acts at once",
        )


def _threshold(policy: Policy, category: str, bundles: list[Any]) -> str:
    if category in policy.thresholds:
        return f"{policy.thresholds[category]:g}"
    found = [read.manifest.rule.thresholds.get(category) for read in bundles]
    told = " and ".join("not covered" if value is None else f"{value:g}" for value in found)
    return f"the bundle's: {told}" if told else "the bundle's"


def _print_sources(shown: Console, policy: Policy) -> None:
    for name, rules in policy.sources.items():
        there = effective_policy(policy, name, ())
        told = [f"{category} from {value:g}" for category, value in rules.thresholds.items()]
        told += [] if rules.any_threshold is None else [f"any risk from {rules.any_threshold:g}"]
        told += [
            f"{category} {'/'.join(there.actions[category].at(level).value for level in RISKY_LEVELS)}"
            for category in rules.actions
        ]
        _say(shown, f"source {name}: {'; '.join(told) or 'as all others'}")


def _print_overrides(shown: Console, policy: Policy) -> None:
    today = utc_today()
    active = active_overrides(policy, today)
    for override in policy.overrides:
        state = "active" if override in active else "waits behind another" if override.active(today) else "expired"
        _say(shown, f"{override.sentence}: {state}")


def _print_words(shown: Console, policy: Policy, known: Taxonomy) -> None:
    today = active_overrides(policy, utc_today())
    rules = [effective_policy(policy, source, today) for source in (None, *policy.sources)]
    for category in policy.actions:
        for level in RISKY_LEVELS:
            cautioned = any(
                category in one.actions and one.actions[category].at(level) is Action.CAUTION for one in rules
            )
            if cautioned and category in known.categories:
                words = safety_prompt(category, level, known, policy.prompts, policy.hints)
                _say(shown, f"told at {category} {level.name.lower()}: {words}")
    _say(shown, f"told where no category is known: {policy.prompts.generic}")
    _say(shown, f"answered in the place of the model: {policy.refusal}")


def _say(shown: Console, text: str) -> None:
    shown.print(printable(text), markup=False, soft_wrap=True)
