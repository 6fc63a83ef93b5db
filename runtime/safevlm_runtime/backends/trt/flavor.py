"""The two flavours of TensorRT behind one handle; they are imported here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, TypeAlias

from safevlm_sdk.errors import MissingExtra, ProviderError

FlavorName: TypeAlias = Literal["tensorrt", "tensorrt_rtx"]

TITLES: dict[FlavorName, str] = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
EXTRAS: dict[FlavorName, str] = {"tensorrt": "trt", "tensorrt_rtx": "trt-rtx"}
PACKAGES: dict[FlavorName, str] = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx-cu13"}

_REASON = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Flavor:
    """One TensorRT that is installed here.

    Attributes:
        name: Of its module.
        trt: The module.
    """

    name: FlavorName
    trt: Any

    @property
    def title(self) -> str:
        """Its name for people, and in verdicts."""
        return TITLES[self.name]

    @property
    def version(self) -> str:
        """As the module says it."""
        return str(self.trt.__version__)

    @property
    def builds(self) -> bool:
        """Whether engines can be built with it; runtimes that only load them come without a builder."""
        return hasattr(self.trt, "Builder") and hasattr(self.trt, "OnnxParser")

    @property
    def builds_for_other_gpus(self) -> bool:
        """Whether it builds for GPUs that are named, and then needs none itself."""
        return hasattr(self.trt, "ComputeCapability")


def load_flavor(name: FlavorName) -> Flavor:
    """Imports a flavour.

    Raises:
        MissingExtra: It is not installed.
        ProviderError: It is installed and does not load.
    """
    try:
        return Flavor(name=name, trt=import_module(name))
    except ModuleNotFoundError as problem:
        if problem.name != name:
            raise _broken(name, problem) from problem
        raise MissingExtra(PACKAGES[name], EXTRAS[name]) from problem
    except Exception as problem:  # a broken installation fails in any way it likes
        raise _broken(name, problem) from problem


def listener(flavor: Flavor) -> Any:
    """A logger that prints nothing and keeps what went wrong, for the message of an error; see `reason`."""
    trt = flavor.trt

    class Listener(trt.ILogger):  # type: ignore[misc, name-defined]  # the module has no types
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(message)

    return Listener()


def reason(logger: Any) -> str:
    """What the library said first of what went wrong since it was last asked, on one line."""
    said = " ".join(logger.errors[0].split()) if logger.errors else "it gives no reason"
    logger.errors.clear()
    return said if len(said) <= _REASON else said[:_REASON] + "…"


def _broken(name: FlavorName, problem: Exception) -> ProviderError:
    found = f"{type(problem).__name__}: {problem}".splitlines()[0][:_REASON]
    return ProviderError(
        f"{name} is installed but does not load ({found}); install it again: pip install --force-reinstall "
        f"{PACKAGES[name]}"
    )
