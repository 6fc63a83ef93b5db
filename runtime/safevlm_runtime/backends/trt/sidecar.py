"""What the manifest says of an engine: made where it is built, and compared with where it is to run."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from safevlm_runtime.backends.trt.build import EngineRequest
from safevlm_runtime.backends.trt.flavor import TITLES, Flavor, FlavorName
from safevlm_sdk.errors import EngineUnreadable
from safevlm_sdk.manifest import Engine, Graph, Manifest
from safevlm_sdk.strict import digest

# What TensorRT calls "Ampere and later", of the GPUs known so far.
AMPERE_PLUS = ("8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "10.3", "11.0", "12.0", "12.1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """What an engine is to run on.

    Attributes:
        flavor: Which TensorRT.
        version: Of that TensorRT.
        host_os: As `platform.system()` says it.
        capability: The GPU's, as "8.6"; None before a GPU was looked for.
    """

    flavor: FlavorName
    version: str
    host_os: str
    capability: str | None = None


def here(flavor: Flavor, capability: str | None = None) -> Here:
    """This machine with one TensorRT."""
    return Here(flavor=flavor.name, version=flavor.version, host_os=platform.system(), capability=capability)


def engine_id(graph: Graph, flavor: FlavorName) -> str:
    """The id of a graph's engine."""
    return f"{graph.role}.{graph.precision}.{flavor}.engine"


def sidecar(graph: Graph, request: EngineRequest, built_on: Here, engine: bytes) -> Engine:
    """The manifest's entry of an engine that was just built.

    Args:
        graph: What it was built of.
        request: How.
        built_on: With which TensorRT, and on which GPU if one was needed.
        engine: Its bytes.
    """
    capabilities = request.capabilities or (() if built_on.capability is None else (built_on.capability,))
    if request.compatibility == "ampere_plus":
        capabilities = AMPERE_PLUS
    name = engine_id(graph, built_on.flavor)
    return Engine(
        id=name,
        graph=graph.id,
        file=f"graphs/{name}",
        flavor=built_on.flavor,
        version=built_on.version,
        compute_capabilities=capabilities,
        profile=dict(request.profile),
        onnx_sha256=digest(request.onnx),
        host_os=built_on.host_os,
        size=len(engine),
    )


def engine_for(manifest: Manifest, graph: Graph, flavor: FlavorName) -> Engine | None:
    """The bundle's engine of a graph for one TensorRT."""
    return next((one for one in manifest.engines if one.graph == graph.id and one.flavor == flavor), None)


def check_bytes(engine: Engine, data: bytes) -> None:
    """Refuses an engine whose bytes are not as many as were built.

    Raises:
        EngineUnreadable: They are not.
    """
    if len(data) != engine.size:
        raise EngineUnreadable(
            f"engine {engine.id}: has {len(data)} bytes, but {engine.size} were built: it was cut or replaced; get "
            "the bundle again"
        )


def misfit(engine: Engine, where: Here) -> str | None:
    """Why an engine cannot be used here, or None.

    Args:
        engine: The manifest's entry, which holds for the graph of its bundle.
        where: This machine; without its GPU's capability that is not compared.
    """
    title = TITLES[engine.flavor]
    if engine.flavor != where.flavor:
        return f"it was built for {title}, and {TITLES[where.flavor]} is asked for"
    if engine.version != where.version:
        return f"it was built with {title} {engine.version}, and {where.version} is installed"
    if engine.host_os != where.host_os:
        return f"it was built on {engine.host_os}, and this is {where.host_os}"
    if where.capability is not None and where.capability not in engine.compute_capabilities:
        found = ", ".join(engine.compute_capabilities)
        return f"it was built for GPUs of compute capability {found}, and the one here has {where.capability}"
    return None
