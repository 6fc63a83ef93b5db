"""Every fault on every way in: nothing is allowed, the fault is named, and no engine hears of the image.

    python -O fault_cells.py

prints one JSON line per cell, and the number of broken ones as the exit status. A cell raises `CellBroken` and never
uses `assert`, so that it says the same under -O. A further way in is one more entry of `WAYS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import sys
import tempfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from fault_world import PICTURE, CellBroken, Hangs, Lie, Outputs, World, demand

from safevlm_runtime import Runtime
from safevlm_runtime.audit import Judge, JudgeSettings
from safevlm_runtime.audit.item import File, Item
from safevlm_runtime.judging import checker
from safevlm_runtime.proxy.app import Application, make_app
from safevlm_runtime.proxy.gateway import coverage_of, open_gateway
from safevlm_runtime.proxy.server import shared
from safevlm_runtime.proxy.settings import Settings
from safevlm_sdk.actions import Action
from safevlm_sdk.errors import SafeVLMError
from safevlm_sdk.policy import load_policy
from safevlm_sdk.raster.child_process import ChildProcess


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one image: whether it went on, by which name it was stopped, and what an engine heard of it."""

    allowed: bool
    error: str | None
    heard: int = 0


class Sdk:
    """`Runtime.check`: no engine at all."""

    reset = None  # what a reset upstream is called; it has none, so that nothing changes

    def __init__(self, world: World) -> None:
        self.world = world

    def start(self, bundle: Path, policy: str | None) -> None:
        """Starts from files, to be refused."""
        Runtime.load(bundle, policy=policy).close()

    def ask(self, runtime: Runtime, image: bytes) -> Outcome:
        """Sends one image in."""
        before = self.world.upstream.heard
        verdict = runtime.check(image)
        return Outcome(allowed=verdict.allowed, error=verdict.error, heard=self.world.upstream.heard - before)


class Audited(Sdk):
    """A row of an audit."""

    def start(self, bundle: Path, policy: str | None) -> None:
        chosen = None if policy is None else load_policy(policy)
        Judge.load(JudgeSettings(bundles=(str(bundle),), digests=None, policy=chosen)).close()

    def ask(self, runtime: Runtime, image: bytes) -> Outcome:
        path, before = self.world.folder / "item.png", self.world.upstream.heard
        path.write_bytes(image)
        judge = Judge(JudgeSettings(bundles=(), digests=None), runtime, None)
        row = judge.row(Item(name="item.png", source="", reference=File(str(path))))
        return Outcome(allowed=row.action is Action.ALLOW, error=row.error, heard=self.world.upstream.heard - before)


class Guarded(Sdk):
    """A guard in front of an engine behind an address."""

    reset: str | None = "chat_engine_unreachable"

    def ask(self, runtime: Runtime, image: bytes) -> Outcome:
        upstream = self.world.upstream
        before = upstream.heard
        reply = runtime.guard(self.world.remote).generate("What is it?", [image])
        demand(reply.refused or reply.text == "An answer.", "an answer that nobody gave")
        return Outcome(allowed=not reply.refused, error=reply.verdicts[0].error, heard=upstream.heard - before)


class InProcess(Sdk):
    """A guard in front of a SafeVLM in this process, whose tower serves both."""

    reset: str | None = "chat_engine_failed"

    def ask(self, runtime: Runtime, image: bytes) -> Outcome:
        before, guard = self.world.language, runtime.guard(self.world.engine)
        demand(guard.shares_tower, "the tower is not shared")
        reply = guard.generate("What is it?", [image])
        return Outcome(allowed=not reply.refused, error=reply.verdicts[0].error, heard=self.world.language - before)


class Http(Sdk):
    """An endpoint of the proxy."""

    path = "/v1/check"

    def start(self, bundle: Path, policy: str | None) -> None:
        settings = Settings(upstream=self.world.upstream.url, bundles=(str(bundle),), policy=policy)
        self.world.loop.run_until_complete(self._started(settings))

    async def _started(self, settings: Settings) -> None:
        app, sent = make_app(functools.partial(shared, settings, None)), []

        async def receive() -> dict[str, str]:
            return {"type": "lifespan.startup"}

        async def send(message: Any) -> None:
            sent.append(message["type"])

        try:
            await app({"type": "lifespan"}, receive, send)
        finally:
            demand(sent == ["lifespan.startup.failed"], f"start-up went on: {sent}")
            status, _, answer = await post(app, self.path, self.body(PICTURE))
            demand((status, answer["error"]["code"]) == (503, "engine_unavailable"), "it serves without a gate")

    def body(self, image: bytes) -> Any:
        """Of the request."""
        return {"image": data_url(image)}

    def ask(self, runtime: Runtime, image: bytes) -> Outcome:
        before = self.world.upstream.heard
        status, headers, answer = self.world.loop.run_until_complete(self._asked(runtime, image))
        heard = self.world.upstream.heard - before
        return replace(self.outcome(status, headers, answer), heard=heard)

    async def _asked(self, runtime: Runtime, image: bytes) -> tuple[int, dict[str, str], Any]:
        world = self.world
        gateway = open_gateway(world.settings, runtime, coverage_of(runtime), upstream=world.client)
        application = Application()
        application.use(gateway)
        try:
            return await post(application, self.path, self.body(image))
        finally:
            gateway.admission.close()

    def outcome(self, status: int, headers: dict[str, str], answer: Any) -> Outcome:
        """Read off an answer."""
        if status != 200:
            return Outcome(allowed=False, error=answer["error"]["code"])
        return Outcome(allowed=answer["action"] == "allow", error=answer["error"])


class Proxy(Http):
    """Chat completions through the proxy."""

    path = "/v1/chat/completions"
    reset: str | None = "upstream_failed"

    def body(self, image: bytes) -> Any:
        part = {"type": "image_url", "image_url": {"url": data_url(image)}}
        return {"model": "m", "messages": [{"role": "user", "content": [part]}]}

    def outcome(self, status: int, headers: dict[str, str], answer: Any) -> Outcome:
        if status != 200:
            return Outcome(allowed=False, error=answer["error"]["code"])
        (choice,) = answer["choices"]
        refused = choice["finish_reason"] == "content_filter"
        demand(refused or choice["message"]["content"] == "An answer.", "an answer that nobody gave")
        return Outcome(allowed=not refused, error=headers.get("x-safevlm-error"))


WAYS: dict[str, type[Sdk]] = {
    "sdk": Sdk, "audit": Audited, "guard": Guarded, "transformers": InProcess, "proxy": Proxy, "http": Http,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        error: By which name an image is stopped.
        lie: What the session of the graph gives instead of its outputs.
        image: That is sent.
        within: What is broken while it is sent.
        missing: "policy" or "bundle": what is not there at the start.
        isolate: Decode in a child.
    """

    error: str
    lie: Lie | None = None
    image: bytes | None = None
    within: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    missing: str = ""
    isolate: bool = False


def raising(problem: BaseException) -> Lie:
    def lie(outputs: Outputs) -> Outputs:
        raise problem

    return lie


def first(change: Callable[[np.ndarray], np.ndarray]) -> Lie:
    """Changes the type logits and nothing else."""
    return lambda outputs: [change(outputs[0]), *outputs[1:]]


@contextmanager
def the_child_killed() -> Iterator[None]:
    """Every decoding child dies with an image in its hands."""
    send = ChildProcess.send

    def killed(child: ChildProcess, header: dict[str, Any], data: bytes) -> None:
        os.kill(child.pid, signal.SIGKILL)
        send(child, header, data)

    with mock.patch.object(ChildProcess, "send", killed):
        yield


def the_decoder_out_of_memory() -> contextlib.AbstractContextManager[Any]:
    return mock.patch.object(checker, "decode", mock.Mock(side_effect=MemoryError))


def data_url(image: bytes) -> str:
    return f"data:image/png;base64,{b64encode(image).decode()}"


FAULTS = {
    "decode error": Fault(error="image_corrupt", image=PICTURE[:-20]),
    "timeout": Fault(error="engine_timeout", lie=raising(Hangs())),
    "NaN": Fault(error="output_not_finite", lie=first(lambda logits: logits * np.float32("nan"))),
    "+Inf": Fault(error="output_not_finite", lie=first(lambda logits: logits + np.float32("inf"))),
    "wrong shape": Fault(error="output_shape", lie=first(lambda logits: logits[:, :1])),
    "more rows": Fault(error="output_shape", lie=lambda outputs: [np.concatenate([one, one]) for one in outputs]),
    "wrong dtype": Fault(error="output_shape", lie=first(lambda logits: logits.astype(np.float64))),
    "empty output": Fault(error="output_shape", lie=lambda outputs: [one[:0] for one in outputs]),
    "no output": Fault(error="internal_error", lie=lambda outputs: []),
    "engine raises": Fault(error="engine_failed", lie=raising(RuntimeError("a canary"))),
    "out of memory": Fault(error="engine_failed", lie=raising(MemoryError())),
    "decoder out of memory": Fault(error="internal_error", within=the_decoder_out_of_memory),
    "child killed": Fault(error="decoder_died", within=the_child_killed, isolate=True),
    "policy missing": Fault(error="policy_invalid", missing="policy"),
    "bundle missing": Fault(error="bundle_missing", missing="bundle"),
    "upstream reset": Fault(error="reset"),
}
CELLS = [(fault, way) for fault in FAULTS for way in WAYS]


def run_cell(world: World, fault_name: str, way_name: str) -> None:
    """One cell.

    Raises:
        CellBroken: The gate is open, or the fault has another name.
    """
    fault, way = FAULTS[fault_name], WAYS[way_name](world)
    if fault.missing:
        before, found, reset = world.upstream.heard, _asked(lambda: _start(world, way, fault)), False
        demand(world.upstream.heard == before, "the upstream heard of a gate that did not start")
    else:
        with world.gate_runtime(isolate=fault.isolate) as runtime:
            healthy = way.ask(runtime, PICTURE)
            demand(healthy.allowed and healthy.error is None, f"without the fault: {healthy}")
            with world.broken(fault.lie, reset=fault.error == "reset"), fault.within():
                found = _asked(lambda: way.ask(runtime, fault.image or PICTURE))
            if not fault.isolate:  # a new child takes half a second
                demand(way.ask(runtime, PICTURE).allowed, "the fault stays when it is gone")
        reset = fault.error == "reset"
    if reset and way.reset is None:
        demand(found == healthy and found.heard == 0, f"there is no upstream to be reset: {found}")
        return
    error = way.reset if reset else fault.error
    demand(not found.allowed, f"allowed: {found}")
    demand(found.error == error, f"named {found.error}, not {error}")
    demand(reset or found.heard == 0, f"the engine heard of it: {found}")


def _start(world: World, way: Sdk, fault: Fault) -> Outcome:
    nowhere = world.folder / "nowhere"
    way.start(*((nowhere, None) if fault.missing == "bundle" else (world.folder / "bundle", str(nowhere))))
    return Outcome(allowed=True, error=None)


def _asked(ask: Callable[[], Outcome]) -> Outcome:
    """An outcome, also of an error with a name; one without is a broken cell."""
    try:
        return ask()
    except SafeVLMError as problem:
        demand("canary" not in str(problem), "the message quotes a foreign error")
        return Outcome(allowed=False, error=problem.code)
    except CellBroken:
        raise
    except Exception as problem:
        raise CellBroken(f"an error without a name came through: {type(problem).__name__}") from problem


async def post(app: Any, path: str, body: Any) -> tuple[int, dict[str, str], Any]:
    """One request straight to an application: status, headers and the JSON answer."""
    data, sent = json.dumps(body).encode(), []
    messages = [{"type": "http.request", "body": data, "more_body": False}]

    async def receive() -> Any:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers,
             "scheme": "http", "server": ("127.0.0.1", 80)}  # fmt: skip
    await app(scope, receive, send)
    answer = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], {k.decode(): v.decode() for k, v in sent[0]["headers"]}, json.loads(answer)


def main() -> int:
    """Runs every cell."""
    torch.set_num_threads(1)
    broken = 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        world = stack.enter_context(contextlib.closing(World(folder)))
        for fault, way in CELLS:
            problem = ""
            try:
                run_cell(world, fault, way)
            except Exception as found:
                problem, broken = f"{type(found).__name__}: {found}", broken + 1
            print(json.dumps({"fault": fault, "way": way, "problem": problem, "asserts": __debug__}))
    return broken


if __name__ == "__main__":
    sys.exit(main())
