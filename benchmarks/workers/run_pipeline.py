"""transformers' image-classification pipeline in PyTorch: THREADS MODEL [compiled]."""

from __future__ import annotations

import os
import sys
import tempfile

import torch
from labels import read
from line_protocol import number_of_threads, serve
from transformers import pipeline


def main() -> None:
    threads = number_of_threads()
    if threads:
        torch.set_num_threads(threads)
    classify = pipeline("image-classification", model=sys.argv[2], device="cpu")
    # The cache that all processes share keeps a half-written file of one that was ended while it compiled.
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        if "compiled" in sys.argv:
            classify.model = torch.compile(classify.model)
        serve(classify, read, {"provider": f"PyTorch, threads: {torch.get_num_threads()}"})


if __name__ == "__main__":
    main()
