"""`safevlm serve`: the gate over HTTP, in front of an OpenAI-compatible server."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from safevlm_sdk.command.bundles import bundle_folders
from safevlm_sdk.command.extras import needs
from safevlm_sdk.command.printing import printable
from safevlm_sdk.errors import OptionError


def serve(
    upstream: Annotated[str, typer.Option(help="The server to ask, as http://127.0.0.1:8000.")],
    bundle: Annotated[
        list[Path] | None, typer.Option("--bundle", "-b", help="A bundle's folder; repeat for several.")
    ] = None,
    starter: Annotated[
        bool, typer.Option("--starter", help="The bundle that comes with the SDK, behind those of --bundle if any.")
    ] = False,
    policy: Annotated[Path | None, typer.Option(help="A policy, instead of the bundle's own.")] = None,
    digest: Annotated[
        list[str] | None, typer.Option(help="Refuse a bundle with another digest (sha256:…); one per bundle.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="PEM file of the key that must have signed every bundle.")] = None,
    provider: Annotated[
        str,
        typer.Option(
            help="Execution provider: cpu, cuda, tensorrt, tensorrt-rtx, ort-tensorrt, ort-tensorrt-rtx, openvino, "
            "openvino:GPU or openvino:NPU. A demand, not a wish."
        ),
    ] = "cpu",
    precision: Annotated[
        str | None,
        typer.Option(help="fp32, fp16, bf16, int8, w8 or w4.", show_default="what is usually fastest there"),
    ] = None,
    engine_seconds: Annotated[
        float, typer.Option(help="Seconds that a graph may run per image; more for a large one on a slow processor.")
    ] = 2.0,
    source: Annotated[str | None, typer.Option(help="Of the policy, for all images that come in here.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8787,
    workers: Annotated[int, typer.Option(help="Processes.")] = 1,
    threads: Annotated[
        int | None,
        typer.Option(
            help="Threads of the graph in each process.", show_default="all cores, shared among the processes"
        ),
    ] = None,
    allow_images_from: Annotated[
        list[str] | None,
        typer.Option(help="A host from which images may be fetched over https; repeat.", show_default="none"),
    ] = None,
    isolate: Annotated[
        bool | None,
        typer.Option("--isolate/--no-isolate", help="Decode in a child process.", show_default="yes, where it can"),
    ] = None,
    log: Annotated[Path | None, typer.Option(help="Append one JSON line per verdict to this file.")] = None,
    log_errors: Annotated[
        Literal["block", "count"],
        typer.Option(help="A line that cannot be written: block lets nothing go on, count only counts it."),
    ] = "block",
    upstream_check: Annotated[
        bool, typer.Option("--upstream-check/--no-upstream-check", help="Refuse to start without the upstream.")
    ] = True,
    allow_uncalibrated: Annotated[
        bool, typer.Option("--allow-uncalibrated", help="Load a bundle whose weights were never calibrated.")
    ] = False,
) -> None:
    """Judge every image before the server behind sees it, and forward only what was judged.

    Say which gate: --bundle, --starter, or both; of several, the worst decision wins.
    """
    if not bundle and not starter:
        raise OptionError("say which gate is to judge: --bundle DIR, or --starter, or both")
    needs("serve", "starlette", "uvicorn", "httpx", "prometheus_client")
    settings = import_module("safevlm_runtime.proxy.settings").Settings(
        upstream=upstream,
        bundles=bundle_folders(bundle, starter),
        policy=None if policy is None else str(policy),
        digests=tuple(digest or ()),
        public_key=None if key is None else str(key),
        provider=provider,
        precision=precision,
        engine_seconds=engine_seconds,
        allow_uncalibrated=allow_uncalibrated,
        isolate=find_spec("resource") is not None if isolate is None else isolate,
        source=source,
        image_hosts=tuple(allow_images_from or ()),
        host=host,
        port=port,
        workers=workers,
        threads=threads,
        decision_log=None if log is None else str(log),
        log_errors=log_errors,
    )
    import_module("safevlm_runtime.proxy.server").serve(
        settings, check_upstream=upstream_check, say=lambda line: typer.echo(printable(line), err=True)
    )
