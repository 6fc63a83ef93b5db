"""Videos: which frames are judged, and what is refused; the files are made here."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safevlm_runtime import Runtime
from safevlm_runtime.judging.video import Sampling, VideoLimits, is_video, open_video
from safevlm_runtime.judging.video.sampling import sampled
from safevlm_sdk.errors import ImageTooLarge, MissingExtra, OptionError, VideoCorrupt, VideoTooLong
from safevlm_sdk.policy import Action
from safevlm_sdk.raster import Limits

RED, GREEN, BLUE = (250, 0, 0), (0, 250, 0), (0, 0, 250)
RATE = 10


def film(pictures, *, container="mp4", codec="libx264", turned=0, streams=1, pixels="yuv420p"):
    """Bytes of a video of 10 pictures a second; a picture is a colour, or pixels [H, W, 3]."""
    buffer = io.BytesIO()
    pictures = [np.full((48, 64, 3), one, np.uint8) if isinstance(one, tuple) else one for one in pictures]
    with av.open(buffer, "w", format=container) as out:
        made = []
        for _ in range(streams):
            stream = out.add_stream(codec, rate=RATE)
            stream.height, stream.width = pictures[0].shape[:2]
            stream.pix_fmt = pixels
            if turned:
                stream.set_display_rotation(turned)
            made.append(stream)
        for stream in made:
            for picture in pictures:
                kind = "rgba" if picture.shape[2] == 4 else "rgb24"
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format=kind)))
            out.mux(stream.encode())
    return buffer.getvalue()


@pytest.fixture(scope="module")
def clip():
    """Three seconds and one frame: green, red from 1.0 to 1.9, green again, and blue in the very last frame."""
    return film([GREEN] * 10 + [RED] * 10 + [GREEN] * 10 + [BLUE])


@pytest.fixture
def runtime(bundle):
    with Runtime.load(bundle) as loaded:
        yield loaded


def opened(data, every_seconds=1.0, max_frames=64, limits=None):
    options = {"limits": limits or VideoLimits(), "image_limits": Limits(), "max_side": 64}
    return open_video(data, Sampling(every_seconds=every_seconds, max_frames=max_frames), **options)


TIMES = st.lists(st.floats(0.001, 3.0), min_size=1, max_size=60)


@given(TIMES, st.floats(0.05, 5.0), st.floats(-100.0, 100.0))
def test_the_first_frame_of_every_interval_and_the_last_are_judged(gaps, every, start):
    times = [start + sum(gaps[:number]) for number in range(len(gaps) + 1)]
    if len(set(times)) < len(times):
        return
    found = list(sampled(zip(times, range(len(times)), strict=True), Sampling(every_seconds=every, max_frames=1_000)))
    chosen = [number for _, number in found]
    assert chosen[0] == 0
    assert chosen[-1] == len(times) - 1
    assert chosen == sorted(set(chosen))
    wanted, seen = set(), set()
    for number, time in enumerate(times):
        interval = math.floor((time - times[0]) / every)
        if interval not in seen:
            wanted.add(number)
        seen.add(interval)
    assert set(chosen) - {len(times) - 1} == wanted - {len(times) - 1}
    assert [seconds for seconds, _ in found] == [times[number] - times[0] for number in chosen]


def test_times_that_do_not_grow_and_too_many_samples_are_refused():
    rule = Sampling(every_seconds=1.0, max_frames=2)
    for times in ([0.0, 0.0], [0.0, 1.0, 0.5]):
        with pytest.raises(VideoCorrupt, match="follows one at"):
            list(sampled(((time, None) for time in times), rule))
    assert len(list(sampled(((time, None) for time in (0.0, 0.5)), rule))) == 2
    for times in ([0.0, 1.0, 2.0], [0.0, 1.0, 1.5]):
        with pytest.raises(VideoTooLong, match="more than 2 frames at one per 1 s"):
            list(sampled(((time, None) for time in times), rule))
    for every, count in ((0.0, 1), (math.inf, 1), (math.nan, 1), (1.0, 0)):
        with pytest.raises(OptionError, match="every_seconds"):
            Sampling(every_seconds=every, max_frames=count)
    with pytest.raises(OptionError, match="max_bytes"):
        VideoLimits(max_bytes=0)


@pytest.mark.parametrize(
    ("container", "codec"), [("mp4", "libx264"), ("mov", "mpeg4"), ("matroska", "libx264"), ("webm", "libvpx")]
)
def test_the_same_frames_come_out_of_every_container(container, codec):
    data = film([GREEN] * 12 + [RED] * 3, container=container, codec=codec)
    assert is_video(data[:12])
    frames = list(opened(data).frames)
    assert [frame.seconds for frame in frames] == pytest.approx([0.0, 1.0, 1.4])
    assert [int(frame.frame.pixels[..., 0].mean()) > 200 for frame in frames] == [False, False, True]
    assert {frame.frame.pixels.shape for frame in frames} == {(48, 64, 3)}


def test_the_worst_frame_wins_and_the_verdict_says_when(runtime, clip, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(clip)
    for video in (clip, io.BytesIO(clip), tmp_path / "clip.mp4", str(tmp_path / "clip.mp4")):
        verdict = runtime.check_video(video)
        assert (verdict.action, verdict.category) == (Action.BLOCK, "illegal_risk")
        assert verdict.reason.startswith("at 1.00 s: illegal_risk")
    frame = list(opened(clip).frames)[1].frame
    assert verdict.raster_sha256 == frame.sha256
    assert verdict.source_sha256 == opened(clip).source_sha256
    assert runtime.check_frame(frame.pixels).score == pytest.approx(verdict.score, abs=1e-6)
    assert set(verdict.timings_ms) == {"decode", "preprocess", "infer", "decide", "total"}


def test_the_last_frame_is_always_judged_and_density_is_the_caller_s(runtime):
    late = film([GREEN] * 19 + [BLUE])
    assert runtime.check_video(late).reason.startswith("at 1.90 s: privacy")
    between = film([GREEN] * 3 + [RED] * 2 + [GREEN] * 5)
    assert runtime.check_video(between).action is Action.ALLOW
    assert runtime.check_video(between, every_seconds=0.1).reason.startswith(("at 0.30 s", "at 0.40 s"))


def test_a_video_that_takes_too_many_frames_is_refused_whatever_was_seen(runtime, clip):
    verdict = runtime.check_video(clip, every_seconds=0.5, max_frames=3)
    assert (verdict.error, verdict.action, verdict.category) == ("video_too_long", Action.BLOCK, None)
    assert runtime.check_video(clip, max_frames=3).error == "video_too_long"
    assert runtime.check_video(clip, max_frames=4).error is None


def test_a_failure_does_not_soften_what_was_found(maker, tmp_path, clip):
    maker.policy = maker.policy.replace(b'uncovered = "allow"', b'uncovered = "allow"\non_error = "caution"')
    with Runtime.load(maker.write(tmp_path / "soft")) as runtime:
        assert runtime.check_video(clip, max_frames=1).action is Action.CAUTION
        verdict = runtime.check_video(clip, max_frames=2)
    assert (verdict.error, verdict.action) == ("video_too_long", Action.BLOCK)


def test_frames_are_judged_upright():
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :32] = RED
    for turned, place in ((90, np.s_[40:, :]), (-90, np.s_[:20, :]), (180, np.s_[:, 40:])):
        (found,) = opened(film([picture], turned=turned)).frames
        assert found.frame.pixels[place][..., 0].mean() > 200
        assert found.frame.pixels.shape == ((64, 48, 3) if abs(turned) == 90 else (48, 64, 3))
    data = film([picture], turned=30)
    with pytest.raises(Exception, match=r"turned by \d+ degrees"):
        list(opened(data).frames)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (lambda: film([GREEN] * 3, streams=2), "video_format"),
        (lambda: film([GREEN] * 3, container="matroska", codec="ffv1"), "video_format"),
        (lambda: film([GREEN] * 3, container="avi", codec="mpeg4"), "video_format"),
        (lambda: b"#EXTM3U\nhttp://example.com/a.ts\n", "video_format"),
        (lambda: b"ffconcat version 1.0\nfile /etc/passwd\n", "video_format"),
        (lambda: b"\x00\x00\x00\x18ftypmp42" + bytes(500), "video_corrupt"),
        (lambda: b"\x1a\x45\xdf\xa3" + bytes(500), "video_corrupt"),
        (lambda: film([np.full((48, 4, 3), 9, np.uint8)] * 2), "image_dimensions"),
        (lambda: b"", "image_empty"),
        (lambda: "nowhere.mp4", "image_not_found"),
        (lambda: np.zeros((8, 8, 3), np.uint8), "image_input"),
    ],
)
def test_what_cannot_be_judged_fails_closed_by_name(runtime, data, error):
    verdict = runtime.check_video(data())
    assert (verdict.error, verdict.action) == (error, Action.BLOCK)


def test_a_cut_video_is_refused_or_judged_to_the_last_frame_that_is_left():
    noise = np.random.default_rng(0).integers(0, 255, (15, 48, 64, 3), dtype=np.uint8)
    whole = film(list(noise))
    for length in (len(whole) // 2, len(whole) - 300):
        with pytest.raises(VideoCorrupt, match="truncated or damaged"):
            list(opened(whole[:length]).frames)
    part = film(list(noise), container="matroska")
    *_, last = opened(part[: len(part) // 2]).frames
    assert 0.3 < last.seconds < 1.3


def test_limits_end_the_decoding(clip):
    with pytest.raises(ImageTooLarge):
        opened(clip, limits=VideoLimits(max_bytes=100))
    large = film([np.zeros((720, 1280, 3), np.uint8)] * 12)
    for limits in (VideoLimits(decode_seconds=0.001), VideoLimits(decode_memory_bytes=2**20)):
        with pytest.raises(Exception, match=r"took longer|memory|damaged") as caught:
            list(opened(large, limits=limits).frames)
        assert caught.value.code in ("decode_timeout", "decoder_died", "video_corrupt", "image_too_many_pixels")


def test_leaving_early_ends_the_child(clip):
    video = opened(clip, every_seconds=0.1)
    next(video.frames)
    video.frames.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_pictures_are_no_videos():
    for head in (b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"\x00\x00\x00\x20ftypavif", b"\x00\x00\x00\x18ftypheic"):
        assert not is_video(head)


def test_the_extra_is_named_where_it_is_missing(runtime, clip, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"safevlm-sdk\[video\]"):
        runtime.check_video(clip)


def test_the_command_judges_videos_beside_images(bundle, clip, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(clip)
    script = [Path(sys.executable).parent / "safevlm", "check", tmp_path / "clip.mp4", tmp_path / "no.png"]
    command = [*map(str, script), "--bundle", str(bundle), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    video, image = map(json.loads, done.stdout.splitlines())
    assert video["reason"].startswith("at 1.00 s: illegal_risk")
    assert image["error"] == "image_not_found"
    done = subprocess.run([*command, "--max-frames", "2"], capture_output=True, text=True, check=False)
    assert json.loads(done.stdout.splitlines()[0])["error"] == "video_too_long"
