"""Silence around ONNX Runtime's quantizers, which tell of every layer and set up the root logger when imported."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from safevlm_training.quiet import quiet


@contextmanager
def silent() -> Iterator[None]:
    """Drops all that the block says, and leaves logging as it was; what fails in it still raises."""
    root = logging.getLogger()
    handlers, level, disabled = root.handlers[:], root.level, root.manager.disable
    try:
        logging.disable(logging.CRITICAL)
        with quiet():
            yield
    finally:
        logging.disable(disabled)
        root.handlers[:] = handlers
        root.setLevel(level)
