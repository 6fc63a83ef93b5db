"""Invented documents, their harmless twins and plain scenes, drawn from numbers.

Needs numpy and Pillow only. `python -m safevlm_training.documents OUT` writes a folder of them.
"""

from __future__ import annotations

from .gallery import examples
from .generate import generate
from .values import Assets, Sample

__all__ = ["Assets", "Sample", "examples", "generate"]
