"""The gate cannot judge: policies, engines, providers."""

from __future__ import annotations

from .base import SafeVLMError


class PolicyError(SafeVLMError):
    """A policy file is not valid."""

    code = "policy_invalid"


class PolicyUncovered(PolicyError):
    """A policy with `uncovered = "refuse"` wants a category that no loaded bundle covers."""

    code = "policy_uncovered"


class EngineError(SafeVLMError):
    """Inference failed."""

    code = "engine_failed"


class EngineTimeout(EngineError):
    """Inference took longer than the limit and was stopped."""

    code = "engine_timeout"


class EngineBuildError(EngineError):
    """No engine can be built of a graph."""

    code = "engine_build_failed"


class OutputShape(EngineError):
    """The graph returned an output of another shape or dtype than the manifest states."""

    code = "output_shape"


class OutputNotFinite(EngineError):
    """The graph returned NaN or infinity."""

    code = "output_not_finite"


class ProviderError(SafeVLMError):
    """The execution provider that was asked for is not the one in use."""

    code = "provider_mismatch"


class DeviceMissing(ProviderError):
    """There is no such device as was asked for, or no driver that shows one."""

    code = "device_missing"


class FeaturesMismatch(SafeVLMError):
    """Vision features come from another tower, tap or shape than the bundle's."""

    code = "features_mismatch"


class ObserverFailed(SafeVLMError):
    """A verdict could not be recorded, and whoever set up the recording wants nothing to pass unrecorded."""

    code = "observer_failed"


class BenchmarkError(SafeVLMError):
    """A benchmark has nothing to measure, or what it measured cannot be compared."""

    code = "benchmark_failed"
