"""From the bytes of an ONNX graph to the bytes of an engine; precision is what the graph's own types say."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from safevlm_runtime.backends.trt.flavor import Flavor, listener, reason
from safevlm_runtime.backends.trt.profile import varies
from safevlm_sdk.errors import BundleGraph, EngineBuildError
from safevlm_sdk.manifest_graphs import ShapeRange

# Name of a phase, steps that are done, steps in all.
Progress = Callable[[str, int, int], None]
Compatibility = Literal["none", "ampere_plus", "same_compute_capability"]

_PLUGINS = ("PLUGIN", "PLUGIN_V2", "PLUGIN_V3")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EngineRequest:
    """What to build.

    Attributes:
        name: For messages.
        onnx: A self-contained graph.
        profile: Input name to its smallest, usual and largest shape.
        capabilities: Compute capabilities to build for, as "8.6"; none: the GPU that is here.
        compatibility: Lets the engine run on other GPUs than the one here, more slowly; TensorRT alone has it.
        timing_cache: What an earlier build on this host measured; TensorRT alone has it.
    """

    name: str
    onnx: bytes
    profile: Mapping[str, ShapeRange]
    capabilities: tuple[str, ...] = ()
    compatibility: Compatibility = "none"
    timing_cache: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Built:
    """An engine's bytes, and what was measured to find it (nothing for TensorRT-RTX, which measures nothing)."""

    engine: bytes
    timing_cache: bytes = field(default=b"")


def capabilities_of(flavor: Flavor) -> tuple[str, ...]:
    """The compute capabilities that a flavour builds for without such a GPU, as "8.6"."""
    if not flavor.builds_for_other_gpus:
        return ()
    names = [name[2:] for name in flavor.trt.ComputeCapability.__members__ if name.startswith("SM")]
    return tuple(f"{name[:-1]}.{name[-1]}" for name in names)


def build_engine(flavor: Flavor, request: EngineRequest, progress: Progress | None = None) -> Built:
    """Builds a strongly typed network as it stands, without plugins.

    Args:
        flavor: What builds.
        request: What.
        progress: Called as the build goes on, maybe from other threads.

    Raises:
        EngineBuildError: The graph cannot be parsed or built; the message holds the library's own words.
        BundleGraph: The graph uses a plugin, which is foreign code.
    """
    if not flavor.builds:
        raise EngineBuildError(f"{flavor.title} {flavor.version} has no builder here; install {flavor.name} in full")
    trt, logger = flavor.trt, listener(flavor)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(request.onnx):
        raise EngineBuildError(f"{request.name}: {flavor.title} cannot read the graph: {_parser_said(parser)}")
    _refuse_plugins(flavor, network, request.name)
    config = builder.create_builder_config()
    _set_profile(builder, config, request)
    _set_targets(flavor, config, request)
    cache = _timing_cache(flavor, config, request)
    monitor = None if progress is None else _monitor(flavor, progress)
    if monitor is not None:
        config.progress_monitor = monitor
    engine = builder.build_serialized_network(network, config)
    if monitor is not None and monitor.problem is not None:
        raise monitor.problem
    if engine is None:
        raise EngineBuildError(f"{request.name}: {flavor.title} {flavor.version} built nothing: {reason(logger)}")
    return Built(engine=bytes(engine), timing_cache=b"" if cache is None else bytes(cache.serialize()))


def _parser_said(parser: Any) -> str:
    found = [parser.get_error(index) for index in range(parser.num_errors)]
    said = "; ".join(
        f"{one.node_operator() or 'graph'} {one.node_name()}: {' '.join(one.desc().split())}" for one in found
    )
    return said[:500] or "it gives no reason"


def _refuse_plugins(flavor: Flavor, network: Any, name: str) -> None:
    plugins = [
        layer.name
        for layer in (network.get_layer(index) for index in range(network.num_layers))
        if layer.type.name in _PLUGINS
    ]
    if plugins:
        raise BundleGraph(
            f"{name}: {flavor.title} takes {plugins[0]!a} for a plugin, which is foreign code; export it without"
        )


def _set_profile(builder: Any, config: Any, request: EngineRequest) -> None:
    if not any(varies(shapes) for shapes in request.profile.values()):
        return
    profile = builder.create_optimization_profile()
    for name, (least, usual, most) in request.profile.items():
        profile.set_shape(name, least, usual, most)
    if config.add_optimization_profile(profile) < 0:
        raise EngineBuildError(f"{request.name}: the profile {dict(request.profile)} does not fit the graph's inputs")


def _set_targets(flavor: Flavor, config: Any, request: EngineRequest) -> None:
    trt = flavor.trt
    if not flavor.builds_for_other_gpus:
        if request.capabilities:
            raise EngineBuildError(
                f"{request.name}: {flavor.title} builds for the GPU that is here alone, not for "
                f"{', '.join(request.capabilities)}; build on the target, as the build kit says"
            )
        level = request.compatibility.upper()
        config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, level)
        return
    if request.compatibility != "none":
        raise EngineBuildError(f"{request.name}: {flavor.title} has no {request.compatibility}; name each capability")
    known = capabilities_of(flavor)
    unknown = [one for one in request.capabilities if one not in known]
    if unknown:
        raise EngineBuildError(
            f"{request.name}: {flavor.title} {flavor.version} does not build for {', '.join(unknown)}, only for "
            f"{', '.join(known)}; for other GPUs build with TensorRT on the target"
        )
    names = ["SM" + one.replace(".", "") for one in request.capabilities] or ["CURRENT"]
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        config.set_compute_capability(getattr(trt.ComputeCapability, name), index)


def _timing_cache(flavor: Flavor, config: Any, request: EngineRequest) -> Any:
    if flavor.builds_for_other_gpus:  # nothing is measured: kernels are made when the engine is loaded
        return None
    cache = config.create_timing_cache(request.timing_cache)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _monitor(flavor: Flavor, progress: Progress) -> Any:
    trt = flavor.trt

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]  # the module has no types
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.problem: BaseException | None = None
            self._steps: dict[str, int] = {}
            self._lock = threading.Lock()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                self._steps[phase_name] = num_steps

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                self._steps.pop(phase_name, None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            # What is raised here would be printed and lost, an interrupt by the keyboard included.
            with self._lock:
                if self.problem is None:
                    try:
                        progress(phase_name, step + 1, self._steps.get(phase_name, step + 1))
                    except BaseException as problem:
                        self.problem = problem
                return self.problem is None

    return Monitor()
