"""The build kit: graphs, shapes and commands, for building engines on the machine whose GPU they are for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from safevlm_export.trt import kit_script
from safevlm_export.trt.commands import TOOLS, command
from safevlm_export.trt.engines import Engines
from safevlm_runtime.backends.trt.flavor import PACKAGES, TITLES
from safevlm_runtime.backends.trt.profile import varies
from safevlm_runtime.backends.trt.sidecar import engine_id
from safevlm_sdk.atomic import publish_folder, require_publishable
from safevlm_sdk.errors import ExportError
from safevlm_sdk.manifest import Manifest

KIT_FILE, SCRIPT, COMMANDS, SUMS, README = "kit.json", "build.py", "build.sh", "SHA256SUMS", "README.md"
ENGINES = "engines"


def kit_folder(out: Path) -> Path:
    """Where the kit of a bundle lies: beside it, since a bundle holds nothing that is not signed and loaded."""
    return out.with_name(out.name + "-trt-kit")


def require_kit_publishable(out: Path) -> None:
    """Checks, before long work, that the kit of a bundle may be written.

    Raises:
        ExportError: Something else lies in its place.
    """
    require_publishable(kit_folder(out), is_kit, error=ExportError)


def write_build_kit(out: Path, manifest: Manifest, engines: Engines) -> Path:
    """Writes the kit beside the bundle; an older kit there is exchanged in one step.

    Args:
        out: The bundle's folder.
        manifest: The bundle's, sealed.
        engines: What was built, and what can be.

    Returns:
        The kit's folder.

    Raises:
        ExportError: It cannot be written.
    """
    contents = kit_files(manifest, engines)

    def fill(folder: Path) -> None:
        for path, data in contents.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_bytes(data)

    publish_folder(kit_folder(out), fill, replaceable=is_kit, error=ExportError)
    return kit_folder(out)


def kit_files(manifest: Manifest, engines: Engines) -> dict[str, bytes]:
    """Path inside the kit to its bytes."""
    plan = engines.plan
    listed, commands = (
        [],
        ["#!/bin/sh", "set -eu", 'cd "$(dirname "$0")"', "sha256sum -c SHA256SUMS", "mkdir -p engines"],
    )
    contents: dict[str, bytes] = {}
    for graph in engines.sources:
        request, name = engines.requests[graph.id], engine_id(graph, plan.name)
        contents[graph.file] = request.onnx
        target = f"{ENGINES}/{name}"
        hashed = sha256(request.onnx).hexdigest()
        profile = {spec: shapes for spec, shapes in request.profile.items() if varies(shapes)}
        listed.append({"graph": graph.id, "onnx": graph.file, "sha256": hashed, "engine": target, "profile": profile})
        commands.append(command(plan, graph.file, target, profile))
    told = {
        "safevlm_kit": 1,
        "bundle": manifest.digest,
        "flavor": plan.name,
        "capabilities": plan.capabilities,
        "compatibility": plan.compatibility,
        "engines": listed,
    }
    contents[KIT_FILE] = (json.dumps(told, indent=2) + "\n").encode()
    contents[SCRIPT] = Path(kit_script.__file__).read_bytes()
    contents[COMMANDS] = ("\n".join(commands) + "\n").encode()
    contents[README] = _readme(manifest, engines).encode()
    contents[SUMS] = _sums(contents)
    return contents


def is_kit(folder: Path) -> bool:
    """True for a folder that `write_build_kit` wrote, with engines that were built in it since or without."""
    try:
        told = json.loads((folder / KIT_FILE).read_text(encoding="utf-8"))
        known = {KIT_FILE, SCRIPT, COMMANDS, SUMS, README, *(one["onnx"] for one in told["engines"])}
        known |= {one["engine"] for one in told["engines"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or path.is_file()}
    return found <= known


def _sums(contents: Mapping[str, bytes]) -> bytes:
    return "".join(f"{sha256(data).hexdigest()}  {path}\n" for path, data in sorted(contents.items())).encode()


def _readme(manifest: Manifest, engines: Engines) -> str:
    plan, title = engines.plan, TITLES[engines.plan.name]
    goal = (
        f"GPUs of compute capability {', '.join(plan.capabilities)}" if plan.capabilities else "the GPU it builds on"
    )
    if plan.compatibility == "ampere_plus":
        goal = "GPUs of the Ampere generation and later"
    built = [
        f"- `{one.id}` was built by the export, with {title} {one.version}, and not run." for one in engines.entries
    ]
    if not built:
        built = [f"- No engine was built by the export: {plan.why_not}."]
    left_out = [f"- No engine of `{graph}`: {why}." for graph, why in engines.left_out.items()]
    graphs = [f"- `{graph.file}`: {graph.role}, {graph.precision}" for graph in engines.sources]
    return f"""# Engines for {manifest.name}

Graphs of the bundle `{manifest.digest}`, with what it takes to build {title} engines of them for {goal}.

{chr(10).join(graphs)}

Their types are their precision: networks are strongly typed, and no flag of a builder changes it.

## What was done

{chr(10).join([*built, *left_out])}

## Building

With Python (`pip install {PACKAGES[plan.name]}`, or the library of your system):

    python build.py

With the command-line tool `{TOOLS[plan.name]}` of {title}; the exact commands for every graph:

    sh build.sh

Both check the graphs first, and write to `{ENGINES}/`. `{KIT_FILE}` has the shapes for other tools.

## Using

`Runtime.load(bundle, provider="{plan.name.replace("_", "-")}")` needs none of this: where {title} and a GPU are, it
builds what fits from the bundle's graphs, and keeps it in a cache of that host. Engines of this kit are for programs
that load engines themselves. An engine is native code: load only what you built, or what came with a signature that
you checked.
"""
