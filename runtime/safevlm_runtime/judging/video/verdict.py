"""From a video to one verdict: each sampled frame is judged as an image, and the worst wins."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

from safevlm_runtime.judging.batches import Prepared, Refused, prepare
from safevlm_runtime.judging.checker import Checker
from safevlm_runtime.judging.clock import Clock
from safevlm_runtime.judging.panel import Panel
from safevlm_runtime.judging.video.limits import VideoLimits
from safevlm_runtime.judging.video.reader import VideoSource, open_video
from safevlm_runtime.judging.video.sampling import Sampling
from safevlm_runtime.judging.worst import worst
from safevlm_sdk.errors import MissingExtra, OptionError
from safevlm_sdk.raster import Frame, Limits
from safevlm_sdk.verdict import Verdict


def judge_video(
    checker: Checker,
    panel: Panel,
    video: VideoSource,
    sampling: Sampling,
    limits: tuple[VideoLimits | None, Limits],
) -> Verdict:
    """Judges the sampled frames of a video one after the other, while the next ones are decoded.

    Args:
        checker: Judges.
        panel: The rules.
        video: A path, encoded bytes or a binary file.
        sampling: Which frames.
        limits: What the video may cost, None for the default; and what each frame may.

    Returns:
        The worst frame's verdict, whose reason names its second; the times are sums over all frames. What goes wrong
        on the way is one more verdict among them, and so softens no frame's.

    Raises:
        MissingExtra: PyAV is not installed.
        OptionError: The platform cannot limit a process.
    """
    clock, digest = Clock(), None
    of_video, of_frames = limits
    cost = VideoLimits() if of_video is None else of_video
    verdicts: list[Verdict] = []
    names: list[str] = []
    try:
        with clock.step("decode"):
            opened = open_video(video, sampling, limits=cost, image_limits=of_frames, max_side=checker.max_side)
        digest = opened.source_sha256
        with closing(opened.frames) as frames:
            while True:
                with clock.step("decode"):
                    one = next(frames, None)
                if one is None:
                    break
                verdicts += checker.judge(panel, [_prepared(checker, one.frame, digest)], 1)
                names.append(f"at {one.seconds:.2f} s")
    except (MissingExtra, OptionError):
        raise
    except Exception as problem:
        refused = Refused(problem=problem, clock=Clock(), source_sha256=digest)
        verdicts += checker.judge(panel, [refused], 1)
        names.append("")
    _, chosen = worst(verdicts, names)
    spent = {step: sum(verdict.timings_ms[step] for verdict in verdicts) for step in clock.ms}
    return replace(chosen, timings_ms={**spent, "decode": spent["decode"] + clock.ms["decode"]})


def _prepared(checker: Checker, frame: Frame, digest: str) -> Prepared | Refused:
    clock = Clock()
    try:
        return prepare(checker.gates, [frame], clock, digest)
    except Exception as problem:
        return Refused(problem=problem, clock=clock, source_sha256=digest)
