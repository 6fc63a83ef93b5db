"""One run of the vision tower for verdict and answer: the gate judges what the engine's own tower saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from safevlm_runtime.guard.screened import Screened, screened, with_frames
from safevlm_sdk.chat import Message, Request, Seen, images_of
from safevlm_sdk.engine import SeeingEngine
from safevlm_sdk.errors import ChatEngineError, ImageError
from safevlm_sdk.manifest import SAFETY_HEAD, Manifest
from safevlm_sdk.raster import Frame, Raster, read_source

if TYPE_CHECKING:
    from safevlm_runtime.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSource:
    """Whose features a bundle judges without pixels.

    Attributes:
        tower_digest: Of the vision tower.
        tap: Where they are taken.
        grid: (rows, columns) of the patches.
    """

    tower_digest: str
    tap: str
    grid: tuple[int, int]


def feature_source(manifest: Manifest) -> FeatureSource | None:
    """Whose features `Runtime.check_features` takes for a bundle; None where it takes pixels only."""
    identity = manifest.identity
    has_head = any(graph.role == SAFETY_HEAD and graph.backend == "onnxruntime" for graph in manifest.graphs)
    if identity.grid is None or identity.tap is None or manifest.view_plan.tile is not None or not has_head:
        return None
    return FeatureSource(tower_digest=identity.tower_digest, tap=identity.tap, grid=identity.grid)


def shared_source(sources: Sequence[FeatureSource | None], engine: object) -> FeatureSource | None:
    """What all bundles and the engine agree on; None where each needs a run of its own."""
    first, *others = sources
    if first is None or any(one != first for one in others) or not isinstance(engine, SeeingEngine):
        return None
    return first if (engine.tower_digest, engine.tap) == (first.tower_digest, first.tap) else None


def look_and_judge(
    runtime: Runtime,
    engine: SeeingEngine,
    messages: tuple[Message, ...],
    *,
    source: str | None,
    options: Mapping[str, Any],
) -> Screened:
    """Has the engine's tower look at the images of a conversation, and judges what it saw.

    Images that are more than one opaque picture, or that the engine's own preparation cuts into other patches than
    the bundle's, are judged by their pixels.

    Raises:
        ChatEngineError: The engine looked at something else than it was given.
        SafeVLMError: It refuses the conversation.
    """
    taken = [_taken(runtime, image.source) for image in images_of(messages)]
    rasters = [_plain(runtime, one) for one in taken]
    plain = [raster for raster in rasters if raster is not None]
    if len(plain) < len(rasters) or not plain:
        return judge_pixels(runtime, messages, taken, source=source)
    frames = [raster.frames[0] for raster in plain]
    seen = engine.look(Request(messages=with_frames(messages, frames), options=options))
    _check(seen, frames)
    grid = runtime.feature_sources[0]
    if any(grid is None or tuple(one.grid) != grid.grid for one in seen.features):
        return judge_pixels(runtime, messages, [frame.pixels for frame in frames], source=source, seen=seen)
    verdicts = [
        replace(runtime.check_features(features, source=source), source_sha256=raster.source_sha256)
        for features, raster in zip(seen.features, plain, strict=True)
    ]
    return screened(messages, frames, verdicts, seen)


def judge_pixels(
    runtime: Runtime,
    messages: tuple[Message, ...],
    images: Sequence[Any],
    *,
    source: str | None,
    seen: Seen | None = None,
) -> Screened:
    """Judges the images [N] of a conversation with the bundles' own graphs."""
    found = [runtime.screen(image, source=source) for image in images]
    frames = [None if one.raster is None else one.raster.frames[0] for one in found]
    return screened(messages, frames, [one.verdict for one in found], seen)


def _taken(runtime: Runtime, image: Any) -> Any:
    """The image, read once where it can be: a file may change, and may be read only once."""
    try:
        return read_source(image, runtime.limits)
    except ImageError:
        return image  # `screen` says what is wrong with it, in a verdict


def _plain(runtime: Runtime, taken: Any) -> Raster | None:
    """The raster of an image that is one opaque picture; None for any other, and for none."""
    try:
        raster = runtime.raster(taken)
    except Exception:  # whatever it was, judging the pixels meets it again and makes it a failed verdict
        return None
    return raster if len(raster.frames) == 1 and not raster.frames[0].variants else None


def _check(seen: Seen, frames: Sequence[Frame]) -> None:
    if [one.raster_sha256 for one in seen.features] != [frame.sha256 for frame in frames]:
        raise ChatEngineError("the engine looked at other pictures than it was given; no verdict can be of them")
