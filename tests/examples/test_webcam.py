"""examples/webcam.py on folders, on a real video, and on a camera whose OpenCV is a stand-in."""

from __future__ import annotations

import sys
from types import ModuleType

import av
import numpy as np
import pytest

from safevlm_runtime import Runtime

SIZE = (320, 240)


@pytest.fixture
def webcam(load):
    return load("webcam.py")


@pytest.fixture
def frames(pictures):
    """Pixels of a harmless frame and of a document."""
    return tuple(np.array(pictures[name].resize(SIZE)) for name in ("scene_hills", "passport"))


@pytest.fixture
def without_opencv(monkeypatch, webcam):
    found = webcam.find_spec
    monkeypatch.setattr(webcam, "find_spec", lambda name: None if name == "cv2" else found(name))


def judged(webcam, frames, every=1):
    """(lines, counts) of frames under the policy of the example."""
    lines = []
    with Runtime.starter(policy=webcam.CAMERA_POLICY) as runtime:
        counts = webcam.judge(runtime, iter(frames), every=every, say=lines.append)
    return [line.split(":")[1].strip() if "frame" in line else line for line in lines], dict(counts)


def test_only_changes_are_told_and_one_frame_alone_changes_nothing(webcam, frames):
    hills, card = frames
    told, counts = judged(webcam, [hills, card, hills, card, card, hills, hills, hills, hills])
    assert told == ["nothing judged -> allow", "allow -> block", "block -> allow"]
    assert counts == {"allow": 7, "block": 2}


def test_a_frame_on_which_the_gate_fails_is_told_at_once_and_is_no_risk(webcam, frames):
    hills, _ = frames
    told, counts = judged(webcam, [hills, hills.astype(np.float32), hills])
    assert told == ["nothing judged -> allow", "allow -> failed (image_input)", "failed (image_input) -> allow"]
    assert counts == {"allow": 2, "failed (image_input)": 1}


def test_frames_between_are_left_out(webcam, frames):
    hills, card = frames
    assert judged(webcam, [hills, card, card] * 3, every=3)[1] == {"allow": 3}


def test_ctrl_c_ends_with_a_summary_and_lets_the_camera_go(webcam, frames, monkeypatch, capsys):
    gone = []

    def camera(source):
        try:
            yield frames[0]
            raise KeyboardInterrupt
        finally:
            gone.append(source)

    monkeypatch.setattr(webcam, "frames_of", camera)
    assert webcam.main(["7"]) == 0
    assert capsys.readouterr().out.endswith("stopped\n1 frames judged: allow 1\n")
    assert gone == ["7"]


def test_a_folder_is_judged_by_name(webcam, pictures, tmp_path, capsys):
    for number, name in enumerate(["scene_hills", *["passport"] * 3]):
        pictures[name].resize(SIZE).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    assert webcam.main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "looks for privacy and for nothing else; 3 of 5 frames decide" in out
    assert "frame 3: allow -> block: privacy" in out
    assert out.endswith("4 frames judged: allow 3, block 1\n")


@pytest.mark.usefixtures("without_opencv")
def test_a_video_is_judged_without_opencv(webcam, frames, tmp_path, capsys):
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for pixels in [frames[0]] * 2 + [frames[1]] * 4:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode())
    assert webcam.main([str(path)]) == 0
    out = capsys.readouterr().out
    assert "frame 4: allow -> block: privacy" in out
    assert out.endswith("6 frames judged: allow 4, block 2\n")
    with pytest.raises(SystemExit, match=r"nowhere\.mp4: .*give a video file"):
        webcam.main([str(tmp_path / "nowhere.mp4")])


def test_a_camera_of_opencv_gives_blue_first_and_is_released(webcam, frames, monkeypatch):
    calls = []

    class Capture:
        def __init__(self, source):
            self.source, self.left = source, [frames[0], frames[1]]
            calls.append(("open", source))

        def isOpened(self):  # noqa: N802 - OpenCV's name
            return self.source != 5

        def set(self, key, value):
            calls.append((key, value))

        def read(self):
            return (True, self.left.pop(0)[:, :, ::-1]) if self.left else (False, None)

        def release(self):
            calls.append("release")

    opencv = ModuleType("cv2")
    opencv.VideoCapture, opencv.CAP_PROP_BUFFERSIZE = Capture, "buffer"
    monkeypatch.setitem(sys.modules, "cv2", opencv)
    monkeypatch.setattr(webcam, "find_spec", lambda name: opencv if name == "cv2" else None)
    seen = list(webcam.frames_of("0"))
    assert [np.array_equal(one, wanted) for one, wanted in zip(seen, frames, strict=True)] == [True, True]
    assert all(one.flags.c_contiguous for one in seen)
    assert calls == [("open", 0), ("buffer", 1), "release"]
    with pytest.raises(SystemExit, match="5: cannot be opened"):
        list(webcam.frames_of("5"))
    monkeypatch.setattr(webcam, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"camera takes OpenCV.*opencv-python-headless"):
        webcam.frames_of("0")
    with pytest.raises(SystemExit, match=r"safevlm-sdk\[video\]"):
        webcam.frames_of("clip.mp4")


def test_a_broken_picture_is_named_acted_upon_and_the_others_are_judged(webcam, pictures, tmp_path, capsys):
    for number, name in enumerate(["scene_hills", "passport", "scene_hills", "scene_hills"]):
        pictures[name].resize(SIZE).save(tmp_path / f"{number}.png")
    (tmp_path / "1.png").write_bytes(b"no picture")
    (tmp_path / "2.png").write_bytes((tmp_path / "0.png").read_bytes()[:200])
    assert webcam.main([str(tmp_path)]) == 1
    *_, first, broken, cut, last, summary = capsys.readouterr().out.splitlines()
    assert first == "frame 0: nothing judged -> allow: no threshold reached"
    assert broken.startswith("frame 1 (1.png): allow -> failed (image_format): ")
    assert cut.startswith("frame 2 (2.png): failed (image_format) -> failed (image_corrupt): ")
    assert last.startswith("frame 3: failed (image_corrupt) -> allow")
    assert summary == "4 frames judged: allow 2, failed (image_format) 1, failed (image_corrupt) 1"


def test_what_cannot_be_judged_ends_with_exit_code_1(webcam, tmp_path, capsys):
    assert webcam.main([str(tmp_path)]) == 1
    assert capsys.readouterr().out.endswith("0 frames judged: \n")
    assert webcam.main([str(tmp_path), "--policy", str(tmp_path / "none.toml")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    with pytest.raises(SystemExit):
        webcam.main(["--every", "0"])
