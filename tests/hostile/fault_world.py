"""What the cells of the table of faults share: a bundle, an upstream, and a model whose tower is the bundle's."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import io
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import onnxruntime
from onnx import ModelProto, TensorProto, helper, numpy_helper
from PIL import Image

from safevlm_runtime import Runtime
from safevlm_runtime.backends.ort_backend import OrtBackend, SessionOptions
from safevlm_runtime.bundle.reader import Bundle, read_bundle
from safevlm_runtime.guard.engines.openai_engine import OpenAIEngine
from safevlm_runtime.judging.gate import open_gate
from safevlm_runtime.proxy.settings import Settings
from safevlm_runtime.proxy.upstream import Upstream as ToUpstream
from safevlm_sdk.golden import Golden
from safevlm_sdk.manifest import Graph, Identity, TensorSpec
from safevlm_training.engine import TransformersEngine
from safevlm_training.quiet import quiet
from safevlm_training.vlm.proof_model import proof_model
from safevlm_training.vlm.tiny import tiny_vlm

SECONDS = 1.0  # for one run of a graph: what is slower is stopped
GRID = (4, 4)  # of the tiny model's patches
SAID = {"role": "assistant", "content": "An answer."}
ANSWER = json.dumps(
    {
        "id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": SAID}],
    }
).encode()  # fmt: skip

Outputs = list[np.ndarray]
Lie = Callable[[Outputs], Outputs]


class CellBroken(Exception):
    """A cell does not hold."""


def demand(holds: object, what: str) -> None:
    """What `assert` would be if -O left it."""
    if not holds:
        raise CellBroken(what)


class Hangs(Exception):
    """Has a session run until it is stopped."""


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
    def broken(self, lie: Lie | None, *, reset: bool) -> Iterator[None]:
        """Has sessions lie, or whoever answers go away, for a while."""
        self.lie, self.resets, self.upstream.resets = lie, reset, reset
        try:
            yield
        finally:
            self.lie, self.resets, self.upstream.resets = None, False, False


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


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (0, 250, 0)).save(buffer, "PNG")
    return buffer.getvalue()


PICTURE = png()


def _loaded(path: Path) -> ModuleType:
    """A module that is in no package."""
    spec = importlib.util.spec_from_file_location(f"fault_cells_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise CellBroken(f"{path} is no module")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
