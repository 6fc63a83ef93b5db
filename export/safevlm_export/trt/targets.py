"""Which TensorRT builds, for which GPUs, and what it cannot do on this machine."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

from safevlm_runtime.backends.trt.build import Compatibility
from safevlm_runtime.backends.trt.device import open_device
from safevlm_runtime.backends.trt.flavor import Flavor, FlavorName, load_flavor
from safevlm_runtime.backends.trt.profile import BATCHES, Sizes
from safevlm_sdk.errors import DeviceMissing, MissingExtra, OptionError, ProviderError

# Engine id, name of the phase, steps done, steps in all.
EngineProgress = Callable[[str, str, int, int], None]
FlavorWish = Literal["auto", "enterprise", "rtx"]

# The RTX 30, 40 and 50 series.
RTX_DEFAULT = ("8.6", "8.9", "12.0")

_SM = re.compile(r"sm([1-9][0-9]*)([0-9])")
_WORDS: dict[str, Compatibility] = {"current": "none", "ampere+": "ampere_plus"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrtOptions:
    """What `--trt` was told.

    Attributes:
        flavor: Which TensorRT; "auto" is the enterprise one where it and a GPU are here, and else TensorRT-RTX.
        target: As "sm86,sm89", "current" (the GPU here) or "ampere+" (enterprise only); None takes what is usual.
        batches: Smallest, usual and largest batch.
        progress: Called as engines are built.
    """

    flavor: FlavorWish = "auto"
    target: str | None = None
    batches: Sizes = BATCHES
    progress: EngineProgress | None = None

    def __post_init__(self) -> None:
        if self.flavor not in get_args(FlavorWish):
            raise OptionError(f"--trt-flavor is {self.flavor!r}; choose from {', '.join(get_args(FlavorWish))}")
        least, usual, most = self.batches
        if not 1 <= least <= usual <= most:
            raise OptionError(f"batches are {self.batches}; give the smallest, the usual and the largest, from 1 on")
        parse_target(self.target)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is going to be built here.

    Attributes:
        name: The TensorRT that the engines are for.
        flavor: It, if it can build them here.
        capabilities: What it builds for; none: the GPU that is here.
        compatibility: Whether engines shall run on other GPUs, too.
        capability: Of the GPU that is here.
        why_not: Why it builds nothing here; the kit then builds on the target.
    """

    name: FlavorName
    flavor: Flavor | None
    capabilities: tuple[str, ...]
    compatibility: Compatibility = "none"
    capability: str | None = None
    why_not: str | None = None


def parse_target(text: str | None) -> tuple[tuple[str, ...], Compatibility]:
    """(compute capabilities, compatibility) of what `--trt-target` was told; no capabilities mean the GPU here.

    Raises:
        OptionError: It is none of the forms.
    """
    words = [] if text is None else [word.strip().lower() for word in text.split(",")]
    if len(words) == 1 and words[0] in _WORDS:
        return (), _WORDS[words[0]]
    found = [_SM.fullmatch(word) for word in words]
    if not all(found):
        raise OptionError(
            f"--trt-target is {text!r}; give compute capabilities such as sm86,sm89,sm120, or `current`, or `ampere+`"
        )
    return tuple(dict.fromkeys(f"{match[1]}.{match[2]}" for match in found if match)), "none"


def plan(options: TrtOptions) -> Plan:
    """Chooses what builds.

    Raises:
        MissingExtra: TensorRT-RTX is to build, and is not installed.
        OptionError: The target is none that it has.
        DeviceMissing: The engines are to be for the GPU that is here, and there is none.
    """
    enterprise = None if options.flavor == "rtx" else _enterprise(options.target)
    if enterprise is not None and (options.flavor == "enterprise" or enterprise.why_not is None):
        return enterprise
    return _rtx(options.target)


def _enterprise(target: str | None) -> Plan:
    """A plan for TensorRT, which builds on the GPU that its engines are for."""
    capabilities, compatibility = parse_target(target)
    found = Plan(name="tensorrt", flavor=None, capabilities=capabilities, compatibility=compatibility)
    try:
        flavor = load_flavor("tensorrt")
        capability = open_device("tensorrt").capability
    except (MissingExtra, ProviderError) as problem:
        return replace(found, why_not=f"{problem}")
    if capabilities not in ((), (capability,)):
        why = f"the GPU here has compute capability {capability}; TensorRT builds for no other"
        return replace(found, why_not=f"{why}, and --trt-target names {', '.join(capabilities)}")
    return replace(found, flavor=flavor, capabilities=(), capability=capability)


def _rtx(target: str | None) -> Plan:
    """A plan for TensorRT-RTX, which builds without a GPU."""
    flavor = load_flavor("tensorrt_rtx")
    if target is None:
        return Plan(name="tensorrt_rtx", flavor=flavor, capabilities=RTX_DEFAULT)
    capabilities, compatibility = parse_target(target)
    if compatibility != "none":
        raise OptionError(f"--trt-target {target} is for --trt-flavor enterprise; name capabilities, as sm86,sm89")
    if capabilities:
        return Plan(name="tensorrt_rtx", flavor=flavor, capabilities=capabilities)
    try:
        capability = open_device("tensorrt_rtx").capability
    except DeviceMissing as problem:
        raise DeviceMissing(
            f"--trt-target current means the GPU here; name capabilities instead, as sm86,sm89: {problem}"
        ) from problem
    return Plan(name="tensorrt_rtx", flavor=flavor, capabilities=(), capability=capability)
