"""The benchmark of GPUs: its figures, the calls that need a GPU on stand-ins, and the script on a CPU."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from safevlm_sdk.manifest import Graph, TensorSpec

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("gpu")


@pytest.fixture
def contenders(gpu) -> ModuleType:
    return importlib.import_module("gpu_contenders")


@pytest.fixture
def subject(contenders):
    """A gate whose graphs are none: for stand-ins that do not look at them."""

    def graph(precision):
        return Graph(
            id=f"gate.{precision}", role="gate", backend="onnxruntime", precision=precision,
            file=f"graphs/gate.{precision}.onnx", target="any", tolerance={"type_logits": 1.0, "level_logprobs": 1.0},
            inputs=(TensorSpec(name="pixel_values", dtype="float32", shape=("batch", 3, 4, 4)),),
            outputs=(
                TensorSpec(name="type_logits", dtype="float32", shape=("batch", 2)),
                TensorSpec(name="level_logprobs", dtype="float32", shape=("batch", 4)),
                TensorSpec(name="features", dtype="float32", shape=("batch", 9, 8)),
            ),
        )  # fmt: skip

    precisions = ("fp32", "fp16")
    return contenders.Subject(
        name="s", module=None, graphs={one: graph(one) for one in precisions},
        data={one: one.encode() for one in precisions}, side=4, flops=10**9,
    )  # fmt: skip


def contender(contenders, **changes):
    fields = {"name": "a", "precision": "fp16", "place": "host", "run": lambda: None, "logits": lambda: np.zeros(2)}
    return contenders.Contender(**(fields | changes))


def test_the_fraction_is_of_the_faster_product_of_the_same_round(gpu, contenders):
    rates = {
        "ONNX Runtime": {"fp16": [100.0, 400.0, 100.0]},
        "PyTorch": {"fp16": [200.0, 200.0, 200.0], "bf16": [1.0]},
    }
    row = gpu.row_of(contender(contenders), [10.0, 5.0, 20.0], 10**9, 2, rates)
    assert row["ms_p50_p95_p99"][0] == 10.0
    assert row["images_per_second"] == 200.0
    assert row["gflops"] == 100.0
    assert row["fraction_of_gemm"] == 0.5  # 100/200, 200/400, 50/200
    unknown = gpu.row_of(contender(contenders, precision="int8"), [10.0], 10**9, 1, rates)
    assert unknown["fraction_of_gemm"] is None


def test_all_take_turns_and_only_the_last_rounds_count(gpu, contenders):
    order = []
    products = gpu.Products("cpu", 16)
    products.steps = tuple(lambda step=step: (order.append("p"), step())[0] for step in products.steps)
    made = [contender(contenders, name=name, run=lambda name=name: order.append(name)) for name in "ab"]
    for batch in (1, 4):
        order.clear()
        found = gpu.measure_batch(made, products, batch * 10**6, batch, 8)
        assert {name: order.count(name) for name in "abp"} == {"a": 8, "b": 8, "p": 16}
        assert [row["name"] for row in found["rows"]] == ["a", "b"]
    assert found["batch"] == 4
    assert all(len(rates) == 8 for by in products.last(8).values() for rates in by.values())
    assert set(products.last(8)["PyTorch"]) == {"fp32", "fp16", "bf16"}


class FakeOrt:
    """ONNX Runtime as CUDA graphs need it: what it was given, and outputs at fixed addresses."""

    def __init__(self):
        self.sessions, self.runs, self.memory = [], [], []
        self.SessionOptions = lambda: SimpleNamespace(add_session_config_entry=lambda *pair: None)
        self.RunOptions = lambda: self._options({})
        self.OrtValue = SimpleNamespace(
            ortvalue_from_numpy=lambda values, device, index: ("given", values.shape, device, index),
            ortvalue_from_shape_and_type=self._value,
        )

    def InferenceSession(self, data, settings, *, providers, enable_fallback):  # noqa: N802 - the library's name
        self.sessions.append((data, providers, enable_fallback))
        names = [providers[0][0], "CPUExecutionProvider"]

        def run(binding, options):
            self.runs.append((dict(binding.bound), dict(options.entries)))
            for value in binding.bound.values():
                if not isinstance(value, tuple):
                    value.array += 1

        return SimpleNamespace(get_providers=lambda: names, io_binding=self._binding, run_with_iobinding=run)

    def _options(self, entries):
        return SimpleNamespace(entries=entries, add_run_config_entry=entries.__setitem__)

    def _value(self, shape, dtype, device, index):
        array = np.zeros(shape, dtype)
        self.memory.append((shape, device))
        return SimpleNamespace(array=array, numpy=lambda: array)

    def _binding(self):
        bound = {}
        return SimpleNamespace(
            bound=bound,
            bind_ortvalue_input=bound.__setitem__,
            bind_ortvalue_output=bound.__setitem__,
            synchronize_outputs=lambda: None,
        )


@pytest.mark.parametrize("graphs", [True, False])
def test_cuda_graphs_replay_on_one_memory_with_an_id_for_each_shape(contenders, subject, monkeypatch, graphs):
    ort = FakeOrt()
    monkeypatch.setattr(contenders, "import_onnxruntime", lambda: ort)
    with_batch = contenders.ort_device(subject, "fp16", "cuda", graphs=graphs)
    options = {"enable_cuda_graph": "1"} if graphs else {}
    assert ort.sessions == [(b"fp16", [("CUDAExecutionProvider", options)], 0)]
    for batch in (1, 8):
        one = with_batch(np.zeros((batch, 3, 4, 4), np.float32))
        one.run()
        one.run()
        assert one.logits().tolist() == [2.0, 2.0]
        assert ort.runs[-1][1] == ({"gpu_graph_id": str(batch)} if graphs else {})
        assert ort.runs[-1][0]["pixel_values"] == ("given", (batch, 3, 4, 4), "cuda", 0)
        assert all(ort.runs[-1][0][name] is ort.runs[-2][0][name] for name in ort.runs[-1][0])
    assert ort.memory == [((1, 2), "cuda"), ((1, 4), "cuda"), ((8, 2), "cuda"), ((8, 4), "cuda")]


def test_a_session_elsewhere_than_asked_is_refused(contenders, subject, monkeypatch):
    ort = FakeOrt()
    session = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", lambda *_, **__: session, raising=False)
    monkeypatch.setattr(contenders, "import_onnxruntime", lambda: ort)
    with pytest.raises(RuntimeError, match="CPUExecutionProvider is in use"):
        contenders.ort_device(subject, "fp16", "cuda", graphs=False)


def test_tensorrt_builds_the_half_graph_for_the_largest_batch(contenders, subject, monkeypatch):
    said = []

    class Backend:
        def __init__(self, engine, graph, flavor, device, seconds):
            said.append((engine, graph.id))

        def run(self, inputs, outputs):
            return {name: np.full((len(inputs["pixel_values"]), 2), 3.0, np.float32) for name in outputs}

    def build(flavor, request):
        said.append((request.onnx, request.profile["pixel_values"]))
        return SimpleNamespace(engine=b"plan", timing_cache=b"")

    flavor = SimpleNamespace(name="tensorrt", title="TensorRT", version="10.16")
    device = SimpleNamespace(capability="9.0", use=lambda: said.append("in use"))
    monkeypatch.setattr(contenders, "load_flavor", lambda name: flavor)
    monkeypatch.setattr(contenders, "open_device", lambda name: device)
    monkeypatch.setattr(contenders, "build_engine", build)
    monkeypatch.setattr(contenders, "deserialise", lambda flavor, entry, data: (entry.version, data))
    monkeypatch.setattr(contenders, "TrtBackend", Backend)
    one = contenders.tensorrt(subject, "tensorrt", 64)(np.zeros((2, 3, 4, 4), np.float32))
    one.run()
    assert said[0] == "in use"
    assert said[1] == (b"fp16", ((1, 3, 4, 4), (8, 3, 4, 4), (64, 3, 4, 4)))
    assert said[2] == (("10.16", b"plan"), "gate.fp16")
    assert (one.name, one.place, one.logits().tolist()) == ("TensorRT 10.16 fp16", "host", [3.0, 3.0])


def test_what_needs_cuda_is_tried_on_cuda_alone(gpu, subject):
    on_cuda, on_cpu = (set(gpu.makers(subject, device, 64)) for device in ("cuda", "cpu"))
    assert {name for name in on_cuda - on_cpu if "CUDA graphs" in name} == on_cuda - on_cpu
    assert len(on_cuda - on_cpu) == 3


@pytest.fixture
def run_script(gpu, tmp_path, monkeypatch, capsys):
    """Runs the script on a tiny tower; gives its JSON and the file that it wrote."""

    def run(*words: str) -> tuple[dict, Path]:
        always = ["--towers", "tiny", "--rounds", "2", "--side", "32", "--out", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", ["gpu.py", *always, *words])
        gpu.main()
        (path,) = tmp_path.iterdir()
        return json.loads(capsys.readouterr().out.splitlines()[-1]), path

    return run


@pytest.mark.slow
def test_the_script_on_a_cpu(run_script):
    wanted = ["--only", "ONNX", "TensorRT fp16", "PyTorch eager bf16"]
    found, path = run_script("--device", "cpu", "--batch-sizes", "1", "3", "--note", "a try", *wanted)
    assert path.name == f"{found['date'][:10]}-gpu-cpu.json"
    assert json.loads(path.read_text(encoding="utf-8")) == found
    assert (found["card"]["device"], found["card"]["note"]) == ("cpu", "a try")
    (tower,) = found["results"]
    assert tower["gflop_per_view"] > 0
    assert [one["batch"] for one in tower["batches"]] == [1, 3]
    for one in tower["batches"]:
        errors = {row["name"]: row["error"] for row in one["rows"]}
        on_onnxruntime = ["ONNX Runtime fp32", "ONNX Runtime fp16", "ONNX Runtime fp16, bound"]
        assert list(errors) == [*on_onnxruntime, "PyTorch eager bf16"]
        assert errors["ONNX Runtime fp32"] < 1e-5
        assert max(errors.values()) < 0.05
        assert list(one["missing"]) == ["TensorRT fp16"]
        assert all(row["fraction_of_gemm"] > 0 for row in one["rows"])


@pytest.mark.gpu
def test_the_script_on_a_gpu(run_script):
    (tower,) = run_script("--batch-sizes", "1", "3", "--only", "ONNX", "PyTorch")[0]["results"]
    for one in tower["batches"]:
        assert not one["missing"]
        assert max(row["error"] for row in one["rows"]) < 0.05
