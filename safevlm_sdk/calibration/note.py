"""The evidence in a sentence each, for manifest, card and page."""

from __future__ import annotations

from safevlm_sdk.calibration.record import CalibrationRecord, Rate
from safevlm_sdk.manifest import Calibration, Manifest, Thresholds
from safevlm_sdk.policy import Policy, SourceRules

NEARLY_OFF = 0.99


def note_of(record: CalibrationRecord, *, temperature_kept: bool) -> str:
    """What `Calibration.note` says of a calibration."""
    temperature = (
        "The temperature is that of before."
        if temperature_kept
        else f"Temperature fitted on {record.temperature_groups} groups that set no threshold."
    )
    rates = " ".join(sentence(rate) for rate in record.rates)
    return (
        f"Set by `safevlm calibrate`. {temperature} {rates} All bounds together at {100 * record.confidence:.4g} % "
        "confidence, for independent groups of images like those of the calibration alone. A group of "
        "near-duplicates counts once, by its worst image."
    )


def sentence(rate: Rate) -> str:
    """One bound or measured rate, with its sample size."""
    what = "harmless images flagged" if rate.kind == "flag" else f"{rate.category} images missed"
    seen = f"{rate.errors} of {rate.groups} groups of {what}"
    bound = f"{100 * rate.upper_bound:.4g} % at {100 * rate.confidence:.4g} % confidence"
    if rate.at_most is None:
        return f"{seen}; measured, not promised: at most {bound}."
    return f"{seen}; promised at most {100 * rate.at_most:.4g} % of such groups, shown at most {bound}."


def warning_of(thresholds: Thresholds) -> str | None:
    """What to say of thresholds that hardly anything reaches; None where there is nothing to say."""
    if thresholds.any <= NEARLY_OFF:
        return None
    return (
        f"Warning: the threshold on any risk is {thresholds.any:.6g}. The gate flags only what it is almost certain "
        "of: look at the harmless images with the highest scores, and judge risky images before you rely on it."
    )


def other_policy(calibration: Calibration, policy: Policy, whose: str = "the bundle's own") -> str | None:
    """What to say of thresholds that were calibrated under another policy; None where there is nothing to say.

    Mode and words of a policy move no threshold: they may differ.

    Args:
        calibration: Of a bundle.
        policy: The one that the bundle is used with.
        whose: What that one is.
    """
    record = calibration.record
    if record is None or record.policy in (policy.digest, policy.deciding_digest):
        return None
    return (
        f"The thresholds were calibrated under another policy ({record.policy}) than {whose}, "
        f"{policy.name!r} ({policy.digest}): what was promised of them need not hold under it. Load the bundle with "
        "the policy of the calibration, or calibrate it under this one."
    )


def policy_warnings(manifest: Manifest, policy: Policy) -> tuple[str, ...]:
    """What to say of a policy that is applied to a bundle: calibrated under another one, or not its thresholds."""
    applied = f"the one that is applied to bundle {manifest.name!r}"
    calibrated = other_policy(manifest.calibration, policy, applied)
    told = [] if calibrated is None else [calibrated]
    rules: dict[str, Policy | SourceRules] = {"": policy}
    rules |= {f" for source {name}": source for name, source in policy.sources.items()}
    own = [
        f"{name}{where}"
        for where, rule in rules.items()
        for name in (*rule.thresholds, *(() if rule.any_threshold is None else ("any risk",)))
    ]
    if own:
        told.append(
            f"policy {policy.name!r} sets thresholds of its own ({', '.join(own)}): what the calibration of bundle "
            f"{manifest.name!r} shows need not hold for them."
        )
    return tuple(told)
