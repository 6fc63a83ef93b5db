"""The starter on CUDA; run by `make test-gpu` on a machine with an NVIDIA GPU and onnxruntime-gpu."""

from __future__ import annotations

import numpy as np
import pytest

from safevlm_runtime import Runtime
from safevlm_training.documents import examples

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def pictures():
    return [np.asarray(sample.image) for _, sample in examples()]


def test_cuda_gives_the_verdicts_of_the_cpu(pictures):
    with Runtime.starter(provider="cpu") as cpu, Runtime.starter(provider="cuda") as cuda:
        assert cuda.provider == "CUDAExecutionProvider"
        for on_cpu, on_cuda in zip(cpu.check_many(pictures), cuda.check_many(pictures), strict=True):
            assert on_cuda.provider == "CUDAExecutionProvider"
            assert (on_cuda.action, on_cuda.category, on_cuda.level) == (on_cpu.action, on_cpu.category, on_cpu.level)
            assert on_cuda.score == pytest.approx(on_cpu.score, abs=1e-2)


def test_batches_on_cuda_give_the_verdicts_of_single_images(pictures):
    with Runtime.starter(provider="cuda") as cuda:
        together = cuda.check_many(pictures, batch_size=8)
        assert [one.action for one in together] == [cuda.check(picture).action for picture in pictures]
