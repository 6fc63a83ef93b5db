"""The benchmark itself: rounds in which every case, the ceilings and a fresh process take their turn."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from PIL import Image

from safevlm_runtime.bench.card import machine_card
from safevlm_runtime.bench.ceiling import CeilingRun, ceiling_provider
from safevlm_runtime.bench.cold import ColdRun
from safevlm_runtime.bench.images import drawn_pictures, own_pictures
from safevlm_runtime.bench.operations import count_operations
from safevlm_runtime.bench.result import Case, Operations, Picture, Result
from safevlm_runtime.bench.subject import MAX_IMAGE_BYTES, Setup, chosen_graph, subject_of
from safevlm_runtime.clock import STEPS
from safevlm_runtime.judging import gate_views
from safevlm_runtime.reader import Bundle, read_bundle
from safevlm_runtime.runtime import Runtime
from safevlm_runtime.views import views_of
from safevlm_sdk.errors import BenchmarkError, OptionError
from safevlm_sdk.manifest import GATE, Graph, Manifest
from safevlm_sdk.raster import Limits
from safevlm_sdk.verdict import Verdict

COLD_RUNS = 5
BATCHES = 2  # per call of `check_many`, so that the next images are decoded while the gate judges
