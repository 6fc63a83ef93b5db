"""From proven graphs to built engines and their entries in the manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import msgspec

from safevlm_export.trt.targets import EngineProgress, Plan
from safevlm_runtime.backends.trt.build import EngineRequest, build_engine
from safevlm_runtime.backends.trt.flavor import TITLES
from safevlm_runtime.backends.trt.profile import Sizes, profile_of, sizes_of
from safevlm_runtime.backends.trt.sidecar import Here, engine_id, here, sidecar
from safevlm_sdk.manifest import RGB_GATE, Engine, Graph, Manifest
from safevlm_sdk.strict import digest

# What TensorRT computes with; "w8" and "w4" are ways of ONNX Runtime to store weights.
PRECISIONS = ("fp16", "bf16", "int8", "fp32")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Engines:
    """What was built, and what was not.

    Attributes:
        plan: By what and for what.
        sources: The graphs that engines can be built of, here or on the target.
        requests: Graph id to the request that builds its engine, here or on the target.
        entries: Of the engines that were built here.
        data: Path inside the bundle to an engine's bytes.
        left_out: Graph id to why no engine is built of it anywhere.
    """

    plan: Plan
    sources: tuple[Graph, ...]
    requests: Mapping[str, EngineRequest]
    entries: tuple[Engine, ...]
    data: Mapping[str, bytes]
    left_out: Mapping[str, str]

    def lines(self) -> tuple[str, ...]:
        """What was built and what was not, for a console."""
        title = TITLES[self.plan.name]
        lines = [
            f"built {one.id} with {title} {one.version} for {', '.join(one.compute_capabilities)}, {one.size} bytes; "
            "not run"
            for one in self.entries
        ]
        if self.plan.why_not is not None:
            lines.append(f"built no engine here: {self.plan.why_not}")
        lines += [f"no engine of {graph}: {why}" for graph, why in self.left_out.items()]
        return tuple(lines)


def build_engines(
    manifest: Manifest,
    data: Mapping[str, bytes],
    plan: Plan,
    batches: Sizes,
    progress: EngineProgress | None = None,
) -> Engines:
    """Builds an engine of every graph that TensorRT takes, if the plan builds here.

    Args:
        manifest: Its graphs are proven.
        data: Path inside the bundle to the graph's bytes.
        plan: What builds, and for what.
        batches: Smallest, usual and largest batch.
        progress: Called as builds go on.

    Raises:
        EngineBuildError: A graph cannot be built; the message names it and holds the library's own words.
    """
    sources, left_out = _sources(manifest)
    requests = {
        graph.id: EngineRequest(
            name=graph.id,
            onnx=data[graph.file],
            profile=profile_of(graph, sizes_of(manifest, batches)),
            capabilities=plan.capabilities,
            compatibility=plan.compatibility,
        )
        for graph in sources
    }
    entries, built = [], {}
    timing = b""
    if plan.flavor is not None:
        where = here(plan.flavor, plan.capability)
        for graph in sources:
            request = replace(requests[graph.id], timing_cache=timing)
            found = build_engine(plan.flavor, request, _named(progress, graph, where))
            timing = found.timing_cache
            entries.append(sidecar(graph, request, where, found.engine))
            built[entries[-1].file] = found.engine
    return Engines(
        plan=plan,
        sources=tuple(sources),
        requests=requests,
        entries=tuple(entries),
        data=built,
        left_out=left_out,
    )


def with_engines(manifest: Manifest, engines: Engines) -> Manifest:
    """The manifest with the entries of what was built; its digest and those of the engines are still open."""
    paths = {graph.id: graph.file for graph in manifest.graphs}
    built_of = {paths[entry.graph]: entry.onnx_sha256 for entry in engines.entries}
    files = manifest.files | built_of | dict.fromkeys(engines.data, digest(b""))
    return msgspec.structs.replace(manifest, engines=engines.entries, files=files)


def _sources(manifest: Manifest) -> tuple[list[Graph], dict[str, str]]:
    """One graph per role and precision; of float32 only where a role has nothing lower."""
    chosen: dict[tuple[str, str], Graph] = {}
    left_out = {}
    for graph in manifest.graphs:
        why = _why_not(graph)
        if why is not None:
            left_out[graph.id] = why
        elif graph.target == "tensorrt" or (graph.role, graph.precision) not in chosen:
            chosen[graph.role, graph.precision] = graph
    lowered = {role for role, precision in chosen if precision != "fp32"}
    return [
        graph for (role, precision), graph in chosen.items() if precision != "fp32" or role not in lowered
    ], left_out


def _why_not(graph: Graph) -> str | None:
    if graph.role == RGB_GATE:
        return "its images have any size, and an engine needs bounds"
    if graph.precision not in PRECISIONS:
        return f"{graph.precision} stores weights in a way of ONNX Runtime"
    if graph.backend != "onnxruntime":
        return f"it is for {graph.backend}"
    if graph.target == "cpu":
        return "it was made for processors"
    return None


def _named(progress: EngineProgress | None, graph: Graph, where: Here) -> Callable[[str, int, int], None] | None:
    if progress is None:
        return None
    name = engine_id(graph, where.flavor)
    return lambda phase, done, steps: progress(name, phase, done, steps)
