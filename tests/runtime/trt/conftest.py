"""A TensorRT and a CUDA driver of host memory: they show that calls, addresses, sizes and errors are right."""

from __future__ import annotations

import ctypes
import enum
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import pytest

from safevlm_runtime.backends.trt.build import EngineRequest
from safevlm_runtime.backends.trt.profile import profile_of, sizes_of
from safevlm_runtime.backends.trt.sidecar import Here, sidecar
from safevlm_runtime.bundle.reader import read_bundle
from safevlm_sdk.manifest import manifest_bytes, parse_manifest, sealed
from safevlm_sdk.strict import digest

PLAN = b"PLAN"
KINDS = {"tensor(float)": "FLOAT", "tensor(bool)": "BOOL"}
DTYPES = {"FLOAT": np.float32, "BOOL": np.bool_}


class Result(enum.IntEnum):
    """The statuses that are looked at."""

    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_NOT_READY = 600
    CUDA_ERROR_LAUNCH_FAILED = 719


class FakeDriver(types.ModuleType):
    """`cuda.bindings.driver` with host memory for the GPU's."""

    def __init__(self, capability: tuple[int, int] = (8, 9)) -> None:
        super().__init__("cuda.bindings.driver")
        self.CUresult = Result
        self.CUdevice_attribute = types.SimpleNamespace(
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR=75, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR=76
        )
        self.CUstreamCaptureMode = types.SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL=1)
        self.capability, self.gpus = capability, 1
        self.status = Result.CUDA_SUCCESS
        self.busy = 0
        self.can_record = True
        self.room = 10**9
        self.memory: dict[int, Any] = {}
        self.calls: list[str] = []
        self.recording: list[Callable[[], None]] | None = None
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.answers: dict[str, Callable[..., Any]] = {
            "cuDeviceGetCount": lambda: self.gpus,
            "cuDeviceGet": lambda index: index,
            "cuDeviceGetName": lambda size, device: b"Fake GPU\0".ljust(size, b"\0"),
            "cuDeviceGetAttribute": lambda attribute, device: self.capability[attribute - 75],
            "cuDevicePrimaryCtxRetain": lambda device: "context",
            "cuStreamCreate": lambda flags: 7,
            "cuMemAlloc": self._allocate,
            "cuMemHostAlloc": self._allocate,
            "cuMemFree": self._free,
            "cuMemFreeHost": self._free,
            "cuMemcpyHtoDAsync": self._copy,
            "cuMemcpyDtoHAsync": self._copy,
            "cuStreamBeginCapture": self._begin,
            "cuStreamEndCapture": self._end,
            "cuGraphInstantiate": lambda graph, flags: graph,
            "cuGraphLaunch": lambda graph, stream: [work() for work in self.graphs[graph]] and None,
        }

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu"):
            raise AttributeError(name)
        return lambda *arguments: self._call(name, arguments)

    def _call(self, name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        self.calls.append(name)
        if name == "cuStreamQuery":
            self.busy -= self.busy > 0
            return (self.status if not self.busy else Result.CUDA_ERROR_NOT_READY,)
        value = self.answers[name](*arguments) if name in self.answers else None
        if name in ("cuMemAlloc", "cuMemHostAlloc") and value is None:
            return Result.CUDA_ERROR_OUT_OF_MEMORY, None
        if name == "cuStreamEndCapture" and not self.can_record:
            return Result.CUDA_ERROR_LAUNCH_FAILED, None
        return (Result.CUDA_SUCCESS,) if value is None else (Result.CUDA_SUCCESS, value)

    def _allocate(self, size: int, flags: int = 0) -> int | None:
        if len(self.memory) >= self.room:
            return None
        block = (ctypes.c_ubyte * size)()
        self.memory[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def _free(self, address: int) -> None:
        del self.memory[address]

    def _copy(self, to: int, source: int, size: int, stream: int) -> None:
        assert size <= min(len(self.memory[to]), len(self.memory[source]))
        ctypes.memmove(to, source, size)

    def _begin(self, stream: int, mode: int) -> None:
        self.recording = []

    def _end(self, stream: int) -> int:
        number, self.graphs[number], self.recording = len(self.graphs), self.recording or [], None
        return number


class FakeContext:
    """Reads inputs where they were put, runs the graph, and writes outputs where they are wanted."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine, self.shapes, self.addresses = engine, {}, {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if shape[0] > 32:
            return False
        self.shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in self.engine.kinds

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self.shapes:
            return self.shapes[name]
        sizes = {}
        for node in self.engine.session.get_inputs():
            sizes.update(zip(node.shape, self.shapes[node.name], strict=True))
        shape = next(node.shape for node in self.engine.session.get_outputs() if node.name == name)
        return tuple(sizes.get(size, size) for size in shape)

    def execute_async_v3(self, stream: int) -> bool:
        driver, shapes = self.engine.driver, dict(self.shapes)
        if driver.recording is not None:
            driver.recording.append(lambda: self._compute(shapes))
        else:
            self._compute(shapes)
        return True

    def _compute(self, shapes: dict[str, tuple[int, ...]]) -> None:
        session = self.engine.session
        feeds = {node.name: self._array(node.name, shapes[node.name]) for node in session.get_inputs()}
        for node, values in zip(session.get_outputs(), session.run(None, feeds), strict=True):
            self._array(node.name, values.shape)[...] = self.engine.change(values)

    def _array(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        dtype = np.dtype(DTYPES[self.engine.kinds[name]])
        block = self.engine.driver.memory[self.addresses[name]]
        return np.frombuffer(block, dtype=dtype, count=int(np.prod(shape))).reshape(shape)


class FakeEngine:
    """A deserialised plan, which is an ONNX graph after four bytes."""

    def __init__(self, data: bytes, driver: FakeDriver, change: Callable[[np.ndarray], np.ndarray]) -> None:
        self.session = onnxruntime.InferenceSession(data[len(PLAN) :], providers=["CPUExecutionProvider"])
        self.driver, self.change = driver, change
        self.inputs = [node.name for node in self.session.get_inputs()]
        self.kinds = {
            node.name: KINDS[node.type] for node in (*self.session.get_inputs(), *self.session.get_outputs())
        }
        self.num_io_tensors = len(self.kinds)
        self.configs: list[Any] = []

    def get_tensor_name(self, index: int) -> str:
        return list(self.kinds)[index]

    def get_tensor_mode(self, name: str) -> str:
        return "INPUT" if name in self.inputs else "OUTPUT"

    def get_tensor_dtype(self, name: str) -> Any:
        return types.SimpleNamespace(name=self.kinds[name])

    def create_execution_context(self, config: Any = None) -> FakeContext:
        self.configs.append(config)
        return FakeContext(self)

    def create_runtime_config(self) -> Any:
        return types.SimpleNamespace(cuda_graph_strategy=None)


class FakeTrt(types.ModuleType):
    """`tensorrt` or `tensorrt_rtx`; a plan is the ONNX graph itself."""

    def __init__(self, name: str, driver: FakeDriver) -> None:  # noqa: C901 - many small classes, no branches
        super().__init__(name)
        self.__version__ = "11.4.0.106" if name == "tensorrt" else "1.7.1.116"
        self.driver, self.change = driver, lambda values: values
        self.layers = ["CONSTANT"]
        self.parsed, self.said = True, "it does not want to"
        self.builds: list[types.SimpleNamespace] = []
        self.engines: list[FakeEngine] = []
        self.host_code: list[bool] = []
        self.TensorIOMode = types.SimpleNamespace(INPUT="INPUT")
        self.NetworkDefinitionCreationFlag = types.SimpleNamespace(STRONGLY_TYPED=1)
        self.HardwareCompatibilityLevel = types.SimpleNamespace(NONE="none", AMPERE_PLUS="ampere_plus")
        if name == "tensorrt_rtx":
            self.CudaGraphStrategy = types.SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole")
            self.ComputeCapability = enum.Enum("ComputeCapability", ["SM86", "SM89", "CURRENT"])
        fake = self

        class ILogger:
            INTERNAL_ERROR, ERROR, WARNING = range(3)

            def log(self, severity: int, message: str) -> None: ...

        class IProgressMonitor: ...

        class Runtime:
            def __init__(self, logger: Any) -> None:
                self.logger, self.engine_host_code_allowed = logger, True

            def deserialize_cuda_engine(self, data: bytes) -> FakeEngine | None:
                fake.host_code.append(self.engine_host_code_allowed)
                if not data.startswith(PLAN):
                    self.logger.log(ILogger.ERROR, "magicTag == kEXPECTED_MAGIC_TAG failed")
                    return None
                fake.engines.append(FakeEngine(data, fake.driver, fake.change))
                return fake.engines[-1]

        class Builder:
            def __init__(self, logger: Any) -> None:
                self.logger = logger

            def create_network(self, flags: int) -> Any:
                layers = [
                    types.SimpleNamespace(name="l", type=types.SimpleNamespace(name=one)) for one in fake.layers
                ]
                return types.SimpleNamespace(
                    flags=flags, num_layers=len(layers), get_layer=layers.__getitem__, onnx=b""
                )

            def create_builder_config(self) -> Any:
                return FakeConfig()

            def create_optimization_profile(self) -> Any:
                profile = types.SimpleNamespace(shapes={})
                profile.set_shape = lambda name, *shapes: profile.shapes.update({name: shapes})
                return profile

            def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
                fake.builds.append(types.SimpleNamespace(network=network, config=config))
                monitor = config.progress_monitor
                if monitor is not None:
                    monitor.phase_start("building", None, 2)
                    if not monitor.step_complete("building", 0):
                        return None
                    monitor.phase_finish("building")
                return PLAN + network.onnx

        class OnnxParser:
            num_errors = 1

            def __init__(self, network: Any, logger: Any) -> None:
                self.network = network

            def parse(self, data: bytes) -> bool:
                self.network.onnx = data
                return fake.parsed

            def get_error(self, index: int) -> Any:
                return types.SimpleNamespace(
                    node_operator=lambda: "Foo", node_name=lambda: "n", desc=lambda: fake.said
                )

        for kind in (ILogger, IProgressMonitor, Runtime, Builder, OnnxParser):
            setattr(self, kind.__name__, kind)


class FakeConfig:
    """A builder's configuration that remembers."""

    def __init__(self) -> None:
        self.profiles: list[Any] = []
        self.capabilities: dict[int, Any] = {}
        self.caches: list[bytes] = []
        self.progress_monitor: Any = None
        self.num_compute_capabilities = 0
        self.hardware_compatibility_level: Any = None

    def add_optimization_profile(self, profile: Any) -> int:
        self.profiles.append(profile.shapes)
        return len(self.profiles) - 1

    def set_compute_capability(self, capability: Any, index: int) -> bool:
        self.capabilities[index] = capability.name
        return True

    def create_timing_cache(self, data: bytes) -> Any:
        self.caches.append(data)
        return types.SimpleNamespace(serialize=lambda: data + b"t")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        return not ignore_mismatch


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    """A driver that shows one GPU of compute capability 8.9."""
    fake = FakeDriver()
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", fake)
    return fake


@pytest.fixture
def fake_trt(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, FakeTrt]:
    """Both flavours, installed, and a cache of their own."""
    found = {name: FakeTrt(name, driver) for name in ("tensorrt", "tensorrt_rtx")}
    for name, module in found.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return found


@pytest.fixture
def with_engines() -> Callable[..., str]:
    """Adds engines to a bundle's folder, and gives its new digest."""

    def add(folder: Path, engine: Callable[[bytes], bytes] = lambda onnx: PLAN + onnx, **changes: Any) -> str:
        found = read_bundle(folder)
        entries, files = [], dict(found.manifest.files)
        where = Here(flavor="tensorrt", version="11.4.0.106", host_os="Linux", capability="8.9")
        for graph in found.manifest.graphs:
            profile = profile_of(graph, sizes_of(found.manifest))
            request = EngineRequest(name=graph.id, onnx=found.graphs[graph.id], profile=profile)
            data = engine(request.onnx)
            entries.append(msgspec.structs.replace(sidecar(graph, request, where, data), **changes))
            (folder / entries[-1].file).write_bytes(data)
            files[entries[-1].file] = digest(data)
        manifest = sealed(msgspec.structs.replace(found.manifest, engines=tuple(entries), files=files))
        (folder / "manifest.json").write_bytes(manifest_bytes(manifest))
        return parse_manifest(manifest_bytes(manifest)).digest

    return add
