"""Icons of risky and harmless objects, composed into pictures: an experiment beside the invented documents.

Needs numpy, Pillow and icons from outside. `python -m safevlm_training.icons OUT` writes a folder of samples.
"""

from __future__ import annotations

from .generate import generate
from .table import read_icons
from .values import Icon, IconAssets

__all__ = ["Icon", "IconAssets", "generate", "read_icons"]
