"""From a bundle's graph to a backend of TensorRT: the bundle's own engine, this host's, or one that is built now."""

from __future__ import annotations

from safevlm_runtime.backends.trt.build import EngineRequest, build_engine
from safevlm_runtime.backends.trt.device import Device, open_device
from safevlm_runtime.backends.trt.engine import deserialise
from safevlm_runtime.backends.trt.flavor import Flavor, FlavorName, load_flavor
from safevlm_runtime.backends.trt.host_cache import HostCache
from safevlm_runtime.backends.trt.profile import profile_of, sizes_of
from safevlm_runtime.backends.trt.sidecar import check_bytes, engine_for, here, misfit, sidecar
from safevlm_runtime.backends.trt.trt_backend import TrtBackend
from safevlm_runtime.bundle.reader import Bundle
from safevlm_sdk.errors import DeviceMissing, EngineMismatch, EngineUntrusted
from safevlm_sdk.manifest import Engine, Graph


def open_engine(bundle: Bundle, graph: Graph, flavor_name: FlavorName, engine_seconds: float) -> TrtBackend:
    """A backend that runs a graph as an engine.

    An engine of the bundle that does not fit this machine is built anew from the bundle's ONNX graph, into the cache
    of this host; a bundle without one likewise.

    Args:
        bundle: Read and checked.
        graph: One of its graphs.
        flavor_name: Which TensorRT.
        engine_seconds: Wall time of one run, per image of its batch.

    Raises:
        MissingExtra: TensorRT, or the interface of the CUDA driver, is not installed.
        EngineUntrusted: The bundle's engine is native code, and nobody vouches for the bundle.
        EngineMismatch: It does not fit, and there is no GPU to build another for.
        EngineUnreadable: It is damaged.
        DeviceMissing: There is no GPU.
        EngineBuildError: No engine can be built here.
    """
    flavor = load_flavor(flavor_name)
    entry, why = _own(bundle, graph, flavor)
    device = _device(flavor, entry, why)
    if entry is not None and why is None:
        why = misfit(entry, here(flavor, device.capability))
    if entry is not None and why is None:
        data = bundle.engines[entry.id]
    else:
        entry, data = _host_engine(bundle, graph, flavor, device)
    return TrtBackend(deserialise(flavor, entry, data), graph, flavor, device, engine_seconds)


def _own(bundle: Bundle, graph: Graph, flavor: Flavor) -> tuple[Engine | None, str | None]:
    """The bundle's own engine, and why it does not fit what is installed here, if so."""
    entry = engine_for(bundle.manifest, graph, flavor.name)
    if entry is None:
        return None, None
    if not (bundle.verified or bundle.pinned):
        raise EngineUntrusted(
            f"engine {entry.id}: is native code, and this bundle is neither pinned nor checked to be signed; pass "
            f"public_key=, or digest={bundle.manifest.digest!r} once you know whose it is"
        )
    check_bytes(entry, bundle.engines[entry.id])
    return entry, misfit(entry, here(flavor))


def _device(flavor: Flavor, entry: Engine | None, why: str | None) -> Device:
    try:
        return open_device(flavor.name)
    except DeviceMissing as problem:
        if entry is None or why is None:
            raise
        raise EngineMismatch(
            f"engine {entry.id}: {why}; another cannot be built here without a GPU: export the bundle for this "
            f"machine, or install what it was built with ({problem})"
        ) from problem


def _host_engine(bundle: Bundle, graph: Graph, flavor: Flavor, device: Device) -> tuple[Engine, bytes]:
    """The engine that this host built of the graph before, or builds now and keeps."""
    onnx = bundle.graphs[graph.id]
    where, cache = here(flavor, device.capability), HostCache()
    request = EngineRequest(
        name=graph.id,
        onnx=onnx,
        profile=profile_of(graph, sizes_of(bundle.manifest)),
        timing_cache=b"" if flavor.builds_for_other_gpus else cache.timing(flavor.version, device.capability),
    )
    found = cache.engine(sidecar(graph, request, where, onnx))
    if found is not None:
        return sidecar(graph, request, where, found), found
    device.use()
    built = build_engine(flavor, request)
    entry = sidecar(graph, request, where, built.engine)
    cache.keep(entry, built.engine)
    if built.timing_cache:
        cache.keep_timing(flavor.version, device.capability, built.timing_cache)
    return entry, built.engine
