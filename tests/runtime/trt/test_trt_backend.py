"""Engines through a whole runtime, on a TensorRT and a driver of host memory."""

from __future__ import annotations

import threading
from importlib import import_module

import numpy as np
import pytest

from safevlm_runtime import Runtime
from safevlm_runtime.backends.trt.opening import open_engine
from safevlm_runtime.bundle.reader import read_bundle
from safevlm_sdk.errors import BundleSelfTest, EngineError, EngineTimeout, EngineUnreadable
from safevlm_sdk.policy import Action

COLOURS = {"red": (250, 0, 0), "green": (0, 250, 0), "blue": (0, 0, 250)}
FLAVORS = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}


@pytest.mark.parametrize("wish", FLAVORS)
def test_an_engine_gives_the_verdicts_of_the_graph_and_names_itself(bundle, fake_trt, paint, wish):
    images = [paint(*rgb) for rgb in COLOURS.values()]
    with Runtime.load(bundle) as cpu, Runtime.load(bundle, provider=wish) as gpu:
        for on_cpu, on_gpu in zip(cpu.check_many(images), gpu.check_many(images), strict=True):
            assert on_gpu.provider == FLAVORS[wish]
            assert (on_gpu.action, on_gpu.category, on_gpu.level) == (on_cpu.action, on_cpu.category, on_cpu.level)
            assert on_gpu.score == pytest.approx(on_cpu.score, abs=1e-6)
    assert fake_trt[wish.replace("-", "_")].host_code == [False]


def test_all_memory_goes_back(bundle, fake_trt, driver, paint):
    with Runtime.load(bundle, provider="tensorrt") as runtime:
        assert runtime.check(paint(250, 0, 0)).action is Action.BLOCK
        assert driver.memory
    assert not driver.memory
    assert runtime.check(paint(250, 0, 0)).error == "engine_failed"


def test_a_batch_beyond_the_profile_is_run_in_parts(bundle, fake_trt):
    read = read_bundle(bundle)
    graph = read.manifest.graphs[0]
    backend = open_engine(read, graph, "tensorrt", 2.0)
    pixels = np.random.default_rng(1).random((70, 3, 16, 16), dtype=np.float32)
    found = backend.run({"pixel_values": pixels}, ["type_logits", "features"])
    assert found["features"].shape == (70, 16, 3)
    single = backend.run({"pixel_values": pixels[69:]}, ["type_logits"])
    np.testing.assert_allclose(found["type_logits"][69:], single["type_logits"], rtol=1e-6)
    backend.close()


def test_shapes_that_come_again_are_replayed(bundle, fake_trt, driver):
    read = read_bundle(bundle)
    backend = open_engine(read, read.manifest.graphs[0], "tensorrt", 2.0)
    pixels = np.random.default_rng(1).random((4, 3, 16, 16), dtype=np.float32)
    results = []
    for scale in (1.0, 0.5, 0.25):
        driver.calls.clear()
        values = pixels * np.float32(scale)
        results.append(backend.run({"pixel_values": values}, ["type_logits"])["type_logits"])
        assert ("cuGraphLaunch" in driver.calls) == (scale < 1.0)
        assert ("cuStreamBeginCapture" in driver.calls) == (scale == 0.5)
    np.testing.assert_allclose(results[0] * 0.25, results[2], rtol=1e-5)
    backend.close()


def test_what_cannot_be_recorded_runs_all_the_same(bundle, fake_trt, driver):
    driver.can_record = False
    read = read_bundle(bundle)
    backend = open_engine(read, read.manifest.graphs[0], "tensorrt", 2.0)
    pixels = np.ones((2, 3, 16, 16), np.float32)
    results = [backend.run({"pixel_values": pixels}, ["type_logits"])["type_logits"] for _ in range(3)]
    np.testing.assert_array_equal(results[0], results[2])
    assert driver.calls.count("cuStreamBeginCapture") == 1
    assert "cuGraphLaunch" not in driver.calls
    backend.close()


def test_tensorrt_rtx_records_by_itself(bundle, fake_trt, driver, paint):
    with Runtime.load(bundle, provider="tensorrt-rtx") as runtime:
        for _ in range(3):
            runtime.check(paint(0, 250, 0))
    assert [config.cuda_graph_strategy for config in fake_trt["tensorrt_rtx"].engines[0].configs] == ["whole"] * 2
    assert "cuStreamBeginCapture" not in driver.calls


def test_a_gpu_that_does_not_answer_fails_closed_and_loses_its_worker(bundle, fake_trt, driver, paint):
    with Runtime.load(bundle, provider="tensorrt", engine_seconds=0.05) as runtime:
        driver.busy = 10**9
        for _ in range(4):  # two workers are lost, and then none is left to wait for
            verdict = runtime.check(paint(0, 250, 0))
            assert (verdict.action, verdict.error) == (Action.BLOCK, "engine_timeout")
        driver.busy = 0


def test_a_gpu_that_fails_fails_closed_and_the_next_image_is_judged(bundle, fake_trt, driver, paint):
    with Runtime.load(bundle, provider="tensorrt") as runtime:
        driver.status = type(driver.status).CUDA_ERROR_LAUNCH_FAILED
        verdict = runtime.check(paint(0, 250, 0))
        assert (verdict.action, verdict.error) == (Action.BLOCK, "engine_failed")
        driver.status = type(driver.status).CUDA_SUCCESS
        assert runtime.check(paint(0, 250, 0)).action is Action.ALLOW
    assert not driver.memory


def test_threads_do_not_mix_their_images(bundle, fake_trt, paint):
    with Runtime.load(bundle, provider="tensorrt", engine_seconds=30.0) as runtime:
        wrong = []

        def judge(rgb, action):
            if any(runtime.check(paint(*rgb)).action is not action for _ in range(8)):
                wrong.append(rgb)

        wanted = [(COLOURS["red"], Action.BLOCK), (COLOURS["green"], Action.ALLOW)] * 2
        threads = [threading.Thread(target=judge, args=arguments) for arguments in wanted]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


@pytest.mark.parametrize("blocks", [0, 3, 8])
def test_a_gpu_without_enough_memory_is_an_error_that_keeps_none_of_it(bundle, fake_trt, driver, blocks):
    driver.room = blocks
    with pytest.raises(EngineError, match=r"cuMem(Host)?Alloc: CUDA_ERROR_OUT_OF_MEMORY"):
        Runtime.load(bundle, provider="tensorrt")
    assert not driver.memory


def test_an_engine_that_computes_otherwise_is_refused(bundle, fake_trt):
    fake_trt["tensorrt"].change = lambda values: values * 1.5 if values.dtype == np.float32 else values
    with pytest.raises(BundleSelfTest, match="differs from its golden values"):
        Runtime.load(bundle, provider="tensorrt")


def test_an_engine_with_other_inputs_is_refused(bundle, fake_trt, models):
    read = read_bundle(bundle)
    gate, head = read.manifest.graphs
    fake_trt["tensorrt"].Builder.build_serialized_network = lambda *_: b"PLAN" + read.graphs[head.id]
    with pytest.raises(EngineUnreadable, match="input features float32"):
        open_engine(read, gate, "tensorrt", 2.0)


def test_features_of_the_callers_tower_are_judged_by_an_engine(bundle, fake_trt):
    read = read_bundle(bundle)
    backend = open_engine(read, read.manifest.graphs[1], "tensorrt", 2.0)
    mask = np.ones((2, 16), np.bool_)
    features = np.zeros((2, 16, 3), np.float32)
    assert backend.run({"features": features, "mask": mask}, ["type_logits"])["type_logits"].shape == (2, 3)
    with pytest.raises(EngineError, match="mask is float32, not bool"):
        backend.run({"features": features, "mask": mask.astype(np.float32)}, ["type_logits"])
    with pytest.raises(EngineError, match="rows"):
        backend.run({"features": features, "mask": mask[:1]}, ["type_logits"])
    backend.close()


def test_a_run_that_waits_for_a_worker_ends(bundle, fake_trt, driver):
    read = read_bundle(bundle)
    backend = open_engine(read, read.manifest.graphs[0], "tensorrt", 0.02)
    driver.busy = 10**9
    pixels = np.ones((1, 3, 16, 16), np.float32)
    for said in ("not done after", "not done after|no worker", "no worker was free"):
        with pytest.raises(EngineTimeout, match=said):
            backend.run({"pixel_values": pixels}, ["type_logits"])
    driver.busy = 0
    backend.close()


def test_the_fakes_have_no_names_that_the_real_ones_lack(bundle, fake_trt, driver, monkeypatch, paint):
    with Runtime.load(bundle, provider="tensorrt") as runtime:
        for _ in range(3):
            runtime.check(paint(0, 250, 0))
    called = set(driver.calls)
    monkeypatch.undo()
    real = import_module("cuda.bindings.driver")
    assert {name for name in called if not hasattr(real, name)} == set()
    trt = import_module("tensorrt_rtx")
    for kind, fake in (("IExecutionContext", "FakeContext"), ("ICudaEngine", "FakeEngine")):
        names = [name for name in vars(type_named(fake_trt["tensorrt"], fake)) if name.islower() and name[0] != "_"]
        assert {name for name in names if not hasattr(getattr(trt, kind), name)} == set()


def type_named(module, name):
    engine = type(module.engines[0])
    return engine if name == "FakeEngine" else type(module.engines[0].create_execution_context())
