"""Judges the frames of a camera, a video file or a folder of pictures, and tells when its state changes.

    python examples/webcam.py 0                                 # the first camera, with OpenCV
    python examples/webcam.py clip.mp4 --every 5                # a file, with OpenCV or PyAV (safevlm-sdk[video])
    python examples/webcam.py frames/                           # a folder

With the starter, the state is what 3 of the last 5 frames call for together, as [hysteresis] of examples/camera.toml
has it; another bundle brings its own policy, or `--policy` names one. A frame by itself changes nothing then, unless
the gate failed on it, or the picture cannot be decoded: that is acted upon at once. Ctrl-C ends it with a summary.
The exit code is 0, or 1 where nothing was judged or something failed. A robot needs more than this: docs/robots.md.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from safevlm_sdk import Runtime, SafeVLMError, Verdict
from safevlm_sdk.errors import ImageError
from safevlm_sdk.hysteresis import ALONE
from safevlm_sdk.raster import decode

Frame = NDArray[np.uint8] | Path  # RGB [H, W, 3]; the path of a picture that cannot be decoded
Frames = Generator[Frame, None, None]
CAMERA_POLICY = Path(__file__).with_name("camera.toml")
PICTURES = (".jpg", ".jpeg", ".png", ".webp")


def frames_of(source: str) -> Frames:
    """The frames of a camera (its number or device), a video file, or a folder's pictures by name."""
    if Path(source).is_dir():
        return of_folder(Path(source))
    if find_spec("cv2") is not None:
        return with_opencv(source)
    if source.isdigit():
        raise SystemExit("a camera takes OpenCV, which is not here; run: pip install opencv-python-headless")
    if find_spec("av") is not None:
        return with_pyav(source)
    raise SystemExit("no library for video is here; run: pip install 'safevlm-sdk[video]', or opencv-python-headless")


def of_folder(folder: Path) -> Frames:
    """Each picture of a folder."""
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in PICTURES:
            try:
                frame: Frame = decode(path).frames[0].pixels
            except ImageError:
                frame = path
            yield frame


def with_opencv(source: str) -> Frames:
    """Of a camera or a file; OpenCV gives blue first, and keeps as few frames waiting as the driver lets it."""
    import cv2

    capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
    try:
        if not capture.isOpened():
            raise SystemExit(f"{source}: cannot be opened; give a camera's number, a video file or a folder")
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        while True:
            there, frame = capture.read()
            if not there:
                return
            yield np.ascontiguousarray(frame[:, :, ::-1])
    finally:
        capture.release()


def with_pyav(source: str) -> Frames:
    """Of a file, or of a camera of Linux as /dev/video0."""
    import av

    try:
        with av.open(source, format="v4l2" if source.startswith("/dev/") else None) as container:
            for frame in container.decode(video=0):
                yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    except (av.FFmpegError, OSError) as problem:
        raise SystemExit(f"{source}: {problem}; give a video file, /dev/video0, or install OpenCV") from problem


def state_of(verdict: Verdict) -> str:
    """What an application would do now; a failed gate is told from a risk."""
    return verdict.action.value if verdict.error is None else f"failed ({verdict.error})"


def judge(runtime: Runtime, frames: Iterator[Frame], *, every: int, say: Callable[[str], object]) -> Counter[str]:
    """Judges every `every`-th frame until they end or Ctrl-C is pressed; returns how many frames each state had."""
    watch, counts, state = runtime.watch("camera"), Counter[str](), "nothing judged"
    try:
        for number, frame in enumerate(frames):
            if number % every:
                continue
            broken = isinstance(frame, Path)
            verdict = runtime.check(frame, source="camera") if broken else watch.check_frame(frame)
            now = state_of(verdict)
            counts[now] += 1
            if now != state or broken:
                name = f"frame {number} ({frame.name})" if broken else f"frame {number}"
                say(f"{name}: {state} -> {now}" + (f": {verdict.reason}" if verdict.reason else ""))
            state = now
    except KeyboardInterrupt:
        say("stopped")
    return counts


def opened(given: argparse.Namespace) -> Runtime:
    """The gate that the command line asks for."""
    if given.bundle is None:
        return Runtime.starter(policy=given.policy or CAMERA_POLICY)
    return Runtime.load(given.bundle, policy=given.policy, digest=given.digest)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", default="0", help="camera number or device, video file, or folder")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="judge one frame of N (default: 1)")
    parser.add_argument("--policy", type=Path, help="instead of camera.toml, or of the bundle's own")
    parser.add_argument("--bundle", type=Path, help="instead of the starter")
    parser.add_argument("--digest", help="sha256:… that the bundle must have")
    given = parser.parse_args(arguments)
    if given.every < 1:
        parser.error(f"--every is {given.every}; give at least 1")
    try:
        with opened(given) as runtime, closing(frames_of(given.source)) as frames:
            votes = runtime.policies[0].hysteresis or ALONE
            print(
                f"looks for {', '.join(runtime.covered)} and for nothing else; {votes.k} of {votes.n} frames decide"
            )
            print("Ctrl-C ends", flush=True)
            counts = judge(runtime, frames, every=given.every, say=lambda line: print(line, flush=True))
    except SafeVLMError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    print(f"{counts.total()} frames judged: {', '.join(f'{state} {count}' for state, count in counts.items())}")
    return 1 if not counts or any(state.startswith("failed") for state in counts) else 0


if __name__ == "__main__":
    sys.exit(main())
