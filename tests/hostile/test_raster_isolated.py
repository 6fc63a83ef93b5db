from __future__ import annotations

import io
import os
import signal
import threading

import numpy as np
import pytest
from PIL import Image

from safevlm_sdk import errors
from safevlm_sdk.raster import IsolatedDecoder, Limits, decode


def saved(kind, size=(64, 48), channels=3, **options):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def large():
    buffer = io.BytesIO()
    Image.new("RGB", (5000, 4900)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def decoder():
    with IsolatedDecoder() as shared:
        yield shared


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("max_side", [None, 20])
def test_equal_to_decoding_in_process(decoder, kind, max_side):
    data = saved(kind, channels=4 if kind in ("PNG", "WEBP") else 3)
    mine, theirs = decode(data, max_side=max_side), decoder.decode(data, max_side=max_side)
    assert (mine.format, mine.source_size, mine.source_sha256) == (
        theirs.format,
        theirs.source_size,
        theirs.source_sha256,
    )
    for a, b in zip(mine.frames, theirs.frames, strict=True):
        assert a.sha256 == b.sha256
        assert not b.pixels.flags.writeable
        assert [name for name, _ in a.variants] == [name for name, _ in b.variants]
        for (_, left), (_, right) in zip(a.variants, b.variants, strict=True):
            assert np.array_equal(left, right)


def test_all_frames_come_back(decoder):
    limits = Limits(frames="all")
    more = [Image.new("RGB", (64, 48), (level, 0, 0)) for level in (10, 20)]
    data = saved("GIF", save_all=True, append_images=more)
    theirs = decoder.decode(data, limits=limits)
    assert [f.sha256 for f in theirs.frames] == [f.sha256 for f in decode(data, limits=limits).frames]


@pytest.mark.parametrize("data", [b"text", saved("PNG")[:-30], saved("PNG", (7, 7)), saved("JPEG")[:200]])
def test_errors_keep_their_class_and_their_child(decoder, data):
    with pytest.raises(errors.ImageError) as mine:
        decode(data)
    decoder.decode(saved("PNG"))
    before = decoder.pid
    with pytest.raises(type(mine.value)) as theirs:
        decoder.decode(data)
    assert str(theirs.value) == str(mine.value)
    assert decoder.pid == before


def test_a_child_killed_between_images_is_replaced(decoder):
    decoder.decode(saved("PNG"))
    first = decoder.pid
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    assert decoder.decode(saved("PNG")).format == "PNG"
    assert decoder.pid != first


def test_a_child_killed_in_the_middle_is_one_failed_image(decoder):
    decoder.decode(saved("PNG"))
    os.kill(decoder.pid, signal.SIGSTOP)
    killer = threading.Timer(0.2, os.kill, (decoder.pid, signal.SIGKILL))
    killer.start()
    with pytest.raises(errors.DecoderDied):
        decoder.decode(saved("PNG"), limits=Limits(decode_seconds=30))
    killer.join()
    assert decoder.pid is None
    assert decoder.decode(saved("PNG")).format == "PNG"


def test_a_hanging_child_is_stopped(decoder):
    decoder.decode(saved("PNG"))
    os.kill(decoder.pid, signal.SIGSTOP)
    with pytest.raises(errors.DecodeTimeout):
        decoder.decode(saved("PNG"), limits=Limits(decode_seconds=0.2))
    assert decoder.decode(saved("PNG")).format == "PNG"


def test_cpu_time_is_bounded():
    limits = Limits(frames="all", decode_cpu_seconds=1, decode_seconds=60)
    data = animation(frames=32, side=1240)
    with IsolatedDecoder() as own, pytest.raises(errors.DecodeTimeout, match="cpu"):
        decode_over_and_over(own, data, limits)


def decode_over_and_over(decoder, data, limits):
    for _ in range(20):
        decoder.decode(data, limits=limits)


def animation(frames, side):
    images = [Image.new("RGBA", (side, side), (level, 0, 0, 128)) for level in range(frames)]
    buffer = io.BytesIO()
    images[0].save(buffer, "PNG", save_all=True, append_images=images[1:])
    return buffer.getvalue()


def test_memory_is_bounded(decoder):
    with pytest.raises((errors.ImageTooManyPixels, errors.DecoderDied)):
        decoder.decode(large(), limits=Limits(decode_memory_bytes=32 * 2**20))
    assert decoder.decode(saved("PNG")).format == "PNG"


def test_threads_take_turns(decoder):
    images = [saved("PNG", (32 + n, 40)) for n in range(4)]
    expected = [decode(data).frames[0].sha256 for data in images]
    wrong = []

    def work(n):
        wrong.extend(n for _ in range(5) if decoder.decode(images[n]).frames[0].sha256 != expected[n])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_child_has_no_rights_and_no_secrets(monkeypatch):
    monkeypatch.setenv("API_KEY", "canary")
    with IsolatedDecoder() as own:
        own.decode(saved("PNG"))
        with open(f"/proc/{own.pid}/limits", encoding="ascii") as file:
            limits = {line[:26].strip(): line[26:].split()[:2] for line in file}
        with open(f"/proc/{own.pid}/environ", "rb") as file:
            environment = file.read()
        with open(f"/proc/{own.pid}/status", encoding="ascii") as file:
            status = dict(line.split(":\t", 1) for line in file if ":\t" in line)
    assert limits["Max file size"] == ["0", "0"]
    assert limits["Max core file size"] == ["0", "0"]
    assert limits["Max open files"] == ["16", "16"]
    assert limits["Max address space"][0] != "unlimited"
    assert status["NoNewPrivs"].strip() == "1"
    assert b"canary" not in environment


def test_pixels_are_taken_in_this_process(decoder):
    array = np.zeros((16, 16, 3), dtype=np.uint8)
    assert decoder.decode(array).format == "array"
    assert decoder.decode(Image.fromarray(array)).format == "PIL"


def test_a_closed_decoder_leaves_no_process():
    with IsolatedDecoder() as own:
        own.decode(saved("PNG"))
        pid = own.pid
    assert own.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
