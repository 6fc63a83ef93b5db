"""transformers' pipeline over optimum-onnx's ORTModelForImageClassification: THREADS MODEL.

The model is exported by the library itself, when this starts.
"""

from __future__ import annotations

import sys

import onnxruntime
from labels import read
from line_protocol import number_of_threads, serve
from optimum.onnxruntime import ORTModelForImageClassification
from transformers import AutoImageProcessor, pipeline


def main() -> None:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = number_of_threads() or 0
    model = ORTModelForImageClassification.from_pretrained(sys.argv[2], export=True, session_options=settings)
    processor = AutoImageProcessor.from_pretrained(sys.argv[2])
    classify = pipeline("image-classification", model=model, image_processor=processor)
    serve(classify, read, {"provider": model.providers[0]})


if __name__ == "__main__":
    main()
