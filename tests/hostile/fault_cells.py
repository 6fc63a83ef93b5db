"""Every fault on every way in: nothing is allowed, the fault is named, and no engine hears of the image.

    python -O fault_cells.py

prints one JSON line per cell, and the number of broken ones as the exit status. A cell raises `CellBroken` and never
uses `assert`, so that it says the same under -O. A further way in is one more entry of `WAYS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
import io
import json
import os
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import msgspec
import numpy as np
import onnxruntime
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from PIL import Image

from safevlm_runtime import Runtime, checker
from safevlm_runtime.engines.openai_engine import OpenAIEngine
from safevlm_runtime.gate import open_gate
from safevlm_runtime.ort_backend import OrtBackend, SessionOptions
from safevlm_runtime.proxy.app import Application, make_app
from safevlm_runtime.proxy.gateway import coverage_of, open_gateway
from safevlm_runtime.proxy.server import shared
from safevlm_runtime.proxy.settings import Settings
from safevlm_runtime.proxy.upstream import Upstream as ToUpstream
from safevlm_runtime.reader import Bundle, read_bundle
from safevlm_sdk.errors import SafeVLMError
from safevlm_sdk.golden import Golden
from safevlm_sdk.manifest import Graph, Identity, TensorSpec
from safevlm_sdk.raster.child_process import ChildProcess
from safevlm_training.engine import TransformersEngine
from safevlm_training.quiet import quiet
from safevlm_training.vlm.proof_model import proof_model
from safevlm_training.vlm.tiny import tiny_vlm

SECONDS = 1.0  # for one run of a graph: what is slower is stopped
GRID = (4, 4)  # of the tiny model's patches
ANSWER = b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop",' \
    b'"message":{"role":"assistant","content":"An answer."}}]}'  # fmt: skip


class CellBroken(Exception):
    """A cell does not hold."""


def demand(holds: object, what: str) -> None:
    """What `assert` would be if -O left it."""
    if not holds:
        raise CellBroken(what)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one image: whether it went on, by which name it was stopped, and what an engine heard of it."""

    allowed: bool
    error: str | None
    heard: int = 0


class Upstream:
    """A server that counts the bytes it gets, and answers or resets the connection."""

    def __init__(self) -> None:
        self.heard, self.resets = 0, False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                with self._listener.accept()[0] as connection, contextlib.suppress(OSError):
                    connection.settimeout(20)
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        data = b""
        while not _whole(data) and (block := connection.recv(65536)):
            data += block
            self.heard += len(block)
        if self.resets:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(ANSWER)}\r\n"
        connection.sendall(head.encode() + b"connection: close\r\n\r\n" + ANSWER)


def _whole(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.lower().splitlines() if line.startswith(b"content-length:")]
    return bool(end) and len(body) >= sum(lengths)


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
        return Outcome(
            allowed=verdict.allowed, error=verdict.error, heard=self.world.upstream.heard - before
        )


class Guarded(Sdk):
    """A guard in front of an engine behind an address."""

    reset: str | None = "chat_engine_unreachable"

    def ask(self, runtime: Runtime, image: bytes) -> Outcome:
        upstream = self.world.upstream
        before = upstream.heard
        reply = runtime.guard(self.world.remote).generate("What is it?", [image])
        demand(reply.refused or reply.text == "An answer.", "an answer that nobody gave")
        return Outcome(
            allowed=not reply.refused, error=reply.verdicts[0].error, heard=upstream.heard - before
        )


class InProcess(Sdk):
    """A guard in front of a SafeVLM in this process, whose tower serves both."""

    reset: str | None = "chat_engine_failed"

    def ask(self, runtime: Runtime, image: bytes) -> Outcome:
        before, guard = self.world.language, runtime.guard(self.world.engine)
        demand(guard.shares_tower, "the tower is not shared")
        reply = guard.generate("What is it?", [image])
        return Outcome(
            allowed=not reply.refused, error=reply.verdicts[0].error, heard=self.world.language - before
        )


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
    "sdk": Sdk, "guard": Guarded, "transformers": InProcess, "proxy": Proxy, "http": Http,
}  # fmt: skip

Outputs = list[np.ndarray]
Lie = Callable[[Outputs], Outputs]


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


class Hangs(Exception):
    """Has a session run until it is stopped."""


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


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (0, 250, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def data_url(image: bytes) -> str:
    return f"data:image/png;base64,{b64encode(image).decode()}"


PICTURE = png()
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


class Lying:
    """A session that does as it is told once it is told."""

    def __init__(self, session: Any, world: World) -> None:
        self._session, self._world = session, world

    def run(self, names: Sequence[str], feeds: dict[str, np.ndarray], options: Any) -> Outputs:
        outputs = self._session.run(names, feeds, options)
        if self._world.lie is None:
            return outputs
        try:
            return self._world.lie(outputs)
        except Hangs:
            while not options.terminate:
                time.sleep(0.002)
            raise RuntimeError("terminated") from None


@dataclass
class World:
    """What cells share: a bundle, an upstream, and a model whose tower is the bundle's."""

    folder: Path
    bundle: Bundle = field(init=False)
    upstream: Upstream = field(default_factory=Upstream)
    engine: TransformersEngine = field(init=False)
    remote: OpenAIEngine = field(init=False)
    settings: Settings = field(init=False)
    client: ToUpstream = field(init=False)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    language: int = 0
    lie: Lie | None = None
    resets: bool = False

    def __post_init__(self) -> None:
        with quiet():
            model = proof_model(*tiny_vlm("llava"), "llava")
        self.engine = TransformersEngine(model, options={"max_tokens": 2})
        model.vlm.get_decoder().register_forward_pre_hook(self._speaks)
        maker = _loaded(Path(__file__).parents[1] / "conftest.py").BundleMaker()
        self.remote = OpenAIEngine(self.upstream.url, "m", retries=0)
        self.settings = Settings(upstream=self.upstream.url)
        self.client = ToUpstream(self.settings)
        self.bundle = seeing(read_bundle(maker.write(self.folder / "bundle")), model.config)

    def _speaks(self, *_: Any) -> None:
        self.language += 1
        if self.resets:
            raise ConnectionResetError("a canary")

    def gate_runtime(self, *, isolate: bool) -> Runtime:
        options = SessionOptions(engine_seconds=SECONDS, threads=1)
        gate = open_gate(self.bundle, options=options, opener=self._opened)
        return Runtime([gate], isolate_decoding=isolate)

    def _opened(self, data: bytes, graph: Graph, options: SessionOptions) -> OrtBackend:
        backend = OrtBackend.load(data, graph, options)
        backend._session = Lying(backend._session, self)
        return backend

    def close(self) -> None:
        self.remote.close()
        self.loop.run_until_complete(self.client.close())
        self.loop.close()
        self.upstream.close()

    @contextmanager
    def broken(self, fault: Fault) -> Iterator[None]:
        """Breaks what the fault names, for a while."""
        reset = fault.error == "reset"
        self.lie, self.resets, self.upstream.resets = fault.lie, reset, reset
        try:
            with fault.within():
                yield
        finally:
            self.lie, self.resets, self.upstream.resets = None, False, False


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
            with world.broken(fault):
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


def seeing(bundle: Bundle, config: Any) -> Bundle:
    """The bundle with a head that takes the features of a model's own tower; it finds everything safe."""
    width, tower, labels = config.feature_width, config.tower, bundle.manifest.labels
    graphs, head = bundle.manifest.graphs, next(one for one in bundle.manifest.graphs if one.role == "safety_head")
    model = head_model(labels, width).SerializeToString()
    shape = ("batch", "tokens", width)
    wide = msgspec.structs.replace(
        head, inputs=(TensorSpec(name="features", dtype="float32", shape=shape), *head.inputs[1:])
    )
    features = np.random.default_rng(0).normal(size=(3, GRID[0] * GRID[1], width)).astype(np.float32)
    mask = np.ones(features.shape[:2], np.bool_)
    names = [spec.name for spec in head.outputs]
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    found = session.run(names, {"features": features, "mask": mask})
    expected = {**bundle.golden.expected, head.id: dict(zip(names, found, strict=True))}
    golden = Golden(images=bundle.golden.images, features=features, mask=mask, expected=expected)
    identity = Identity(
        tower="tiny", tower_digest=tower.digest, checkpoint_digest=tower.digest, tap=tower.tap, grid=GRID,
        feature_width=width,
    )  # fmt: skip
    changed = tuple(wide if one is head else _narrow(one) for one in graphs)
    manifest = msgspec.structs.replace(bundle.manifest, identity=identity, graphs=changed)
    return replace(bundle, manifest=manifest, golden=golden, graphs={**bundle.graphs, head.id: model})


def _narrow(graph: Graph) -> Graph:
    """Without features, which this graph has of another width and nobody asks for."""
    return msgspec.structs.replace(graph, outputs=tuple(one for one in graph.outputs if one.name != "features"))


def head_model(labels: Sequence[str], width: int) -> ModelProto:
    """Valid tokens weigh alike, and every image is safe."""
    types = np.array([8.0 if label == "safe" else 0.0 for label in labels], np.float32)
    constants = [
        numpy_helper.from_array(np.zeros((width, len(labels)), np.float32), "no_types"),
        numpy_helper.from_array(np.zeros((width, 4), np.float32), "no_levels"),
        numpy_helper.from_array(types, "types"),
        numpy_helper.from_array(np.array([9, 0, 0, 0], np.float32), "levels"),
        numpy_helper.from_array(np.array([1], np.int64), "axis"),
    ]
    nodes = [
        helper.make_node("Cast", ["mask"], ["valid"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["valid", "axis"], ["per_row"], keepdims=1),
        helper.make_node("Div", ["valid", "per_row"], ["attention"]),
        helper.make_node("ReduceMean", ["features"], ["pooled"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["pooled", "no_types"], ["t"]),
        helper.make_node("MatMul", ["pooled", "no_levels"], ["l"]),
        helper.make_node("Add", ["t", "types"], ["type_logits"]),
        helper.make_node("Add", ["l", "levels"], ["raw"]),
        helper.make_node("LogSoftmax", ["raw"], ["level_logprobs"], axis=1),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "head",
        [
            value("features", TensorProto.FLOAT, ["batch", "tokens", width]),
            value("mask", TensorProto.BOOL, ["batch", "tokens"]),
        ],
        [
            value("type_logits", TensorProto.FLOAT, ["batch", len(labels)]),
            value("level_logprobs", TensorProto.FLOAT, ["batch", 4]),
            value("attention", TensorProto.FLOAT, ["batch", "tokens"]),
        ],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


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


def _loaded(path: Path) -> ModuleType:
    """A module that is in no package."""
    spec = importlib.util.spec_from_file_location(f"fault_cells_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise CellBroken(f"{path} is no module")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
