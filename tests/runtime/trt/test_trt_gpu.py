"""Engines on a real GPU; run by `make test-gpu` on a machine with one."""

from __future__ import annotations

import threading
from importlib.util import find_spec

import numpy as np
import pytest

from safevlm_runtime import Runtime
from safevlm_training.documents import examples

pytestmark = pytest.mark.gpu

HERE = [
    wish
    for wish, module in (("tensorrt-rtx", "tensorrt_rtx"), ("tensorrt", "tensorrt"))
    if find_spec(module) is not None
]


@pytest.fixture(scope="module", params=HERE)
def engine(request, tmp_path_factory):
    """The starter as an engine that is built on this host."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        with Runtime.starter(provider=request.param) as runtime:
            yield runtime


@pytest.fixture(scope="module")
def pictures():
    return [np.asarray(sample.image) for _, sample in examples()]


def test_an_engine_gives_the_verdicts_of_the_cpu(engine, pictures):
    with Runtime.starter() as cpu:
        for on_cpu, on_gpu in zip(cpu.check_many(pictures), engine.check_many(pictures), strict=True):
            assert on_gpu.provider in ("TensorRT", "TensorRT-RTX")
            assert (on_gpu.action, on_gpu.category, on_gpu.level) == (on_cpu.action, on_cpu.category, on_cpu.level)
            assert on_gpu.score == pytest.approx(on_cpu.score, abs=1e-2)


def test_repeated_shapes_and_large_batches_give_the_same(engine, pictures):
    once = [verdict.score for verdict in engine.check_many(pictures, batch_size=8)]
    for _ in range(3):
        assert [verdict.score for verdict in engine.check_many(pictures, batch_size=8)] == pytest.approx(
            once, abs=1e-3
        )
    assert [verdict.score for verdict in engine.check_many(pictures, batch_size=64)] == pytest.approx(once, abs=1e-3)


def test_threads_do_not_mix_their_images(engine, pictures):
    wanted = [engine.check(picture).score for picture in pictures[:4]]
    wrong = []

    def judge(picture, score):
        if any(abs(engine.check(picture).score - score) > 1e-3 for _ in range(50)):
            wrong.append(score)

    threads = [threading.Thread(target=judge, args=pair) for pair in zip(pictures, wanted, strict=False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
