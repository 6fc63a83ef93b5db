from __future__ import annotations

import io
import os
import random
import struct
import subprocess
import sys
import threading
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from safevlm_sdk import errors
from safevlm_sdk.raster import Limits, decode

ALL = Limits(frames="all", mpo="judge")
SMALL = Limits(frames="all", mpo="judge", max_pixels=100_000, max_total_pixels=400_000)


def picture(width=40, height=24, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height))


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def samples():
    more = {"save_all": True, "append_images": [picture(seed=1), picture(seed=2)]}
    return {
        "jpeg": saved(picture(), "JPEG"),
        "progressive": saved(picture(), "JPEG", progressive=True),
        "restarts": saved(picture(), "JPEG", restart_marker_blocks=2),
        "png": saved(picture(), "PNG"),
        "palette": saved(picture().quantize(16), "PNG"),
        "webp": saved(picture(), "WEBP"),
        "lossless": saved(picture(), "WEBP", lossless=True),
        "gif": saved(picture(), "GIF"),
        "mpo": saved(picture(), "MPO", **more),
        "apng": saved(picture(), "PNG", **more),
        "webps": saved(picture(), "WEBP", **more),
        "gifs": saved(picture(), "GIF", **more),
    }


SAMPLES = samples()


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_header(width, height, *chunks, kind=0):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def outcome(data, limits=SMALL):
    """The digests of a decode, or the code of its error; anything else escapes and fails the test."""
    try:
        return tuple(frame.sha256 for frame in decode(data, limits=limits).frames)
    except errors.ImageError as error:
        return error.code


@pytest.mark.parametrize("name", SAMPLES)
def test_a_file_cut_anywhere_is_refused_the_same_way_twice(name):
    data = SAMPLES[name]
    assert isinstance(outcome(data), tuple)
    for end in range(1, len(data) - 1, max(1, len(data) // 150)):
        first = outcome(data[:end])
        assert isinstance(first, str), end
        assert outcome(data[:end]) == first


@pytest.mark.parametrize("name", ["jpeg", "restarts", "progressive"])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.8])
def test_a_jpeg_cut_and_closed_with_an_end_marker_is_refused(name, share):
    data = SAMPLES[name]
    start = data.index(b"\xff\xda") + 14
    cut = data[: start + int((len(data) - start) * share)].rstrip(b"\xff")
    if name != "progressive":
        with Image.open(io.BytesIO(cut + b"\xff\xd9")) as image:
            image.load()  # Pillow does not mind
    assert outcome(cut + b"\xff\xd9") == "image_corrupt"


@pytest.mark.parametrize("name", SAMPLES)
def test_what_follows_the_image_is_ignored(name):
    assert outcome(SAMPLES[name] + b"PK\x03\x04" * 5000) == outcome(SAMPLES[name])


@pytest.mark.parametrize("name", SAMPLES)
def test_mutated_files_give_a_raster_or_a_named_error_and_the_same_twice(name):
    rng = random.Random(name)
    for _ in range(2000 // len(SAMPLES) + 1):
        data = bytearray(SAMPLES[name])
        for _ in range(rng.choice((1, 2, 8))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        assert outcome(bytes(data)) == outcome(bytes(data))


@pytest.mark.parametrize("name", ["png", "apng"])
def test_png_bodies_behind_right_checksums_are_mutated_too(name):
    rng = random.Random(name)
    for _ in range(200):
        at, out, data = 8, [SAMPLES[name][:8]], SAMPLES[name]
        while at < len(data):
            (length,) = struct.unpack_from(">I", data, at)
            body = bytearray(data[at + 8 : at + 8 + length])
            if body and rng.random() < 0.4:
                body[rng.randrange(len(body))] = rng.randrange(256)
            out.append(chunk(data[at + 4 : at + 8], bytes(body)))
            at += 12 + length
        outcome(b"".join(out))


@pytest.mark.parametrize("data", [b"hello", b"<svg/>", b"%PDF-1.7", b"%!PS-Adobe-3.0 EPSF-3.0", b"BM" + b"\0" * 60])
def test_other_formats_are_refused(data):
    with pytest.raises(errors.ImageFormat):
        decode(data)


def test_a_format_that_is_not_allowed_is_refused():
    with pytest.raises(errors.ImageFormat):
        decode(SAMPLES["gif"], limits=Limits(formats=("PNG",)))


@pytest.mark.parametrize(
    ("size", "code"),
    [
        ((1, 80_000_000), "image_dimensions"),
        ((80_000_000, 1), "image_dimensions"),
        ((7, 7), "image_dimensions"),
        ((8, 168), "image_dimensions"),
        ((0, 16), "image_dimensions"),
        ((12_000, 12_000), "image_too_many_pixels"),
    ],
)
def test_sizes_are_refused_by_the_header(size, code):
    assert outcome(png_header(*size, chunk(b"IDAT", b"x")), Limits()) == code


BOMBS = """
import resource, sys, zlib, struct
import safevlm_sdk.raster as raster
from safevlm_sdk.errors import ImageError
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 64 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
limits = raster.Limits(frames="all", max_frames=60)
size = struct.unpack(">I", sys.stdin.buffer.read(4))[0]
while size:
    try:
        raster.decode(sys.stdin.buffer.read(size), limits=limits)
        print("raster")
    except ImageError as error:
        print(error.code)
    size = struct.unpack(">I", sys.stdin.buffer.read(4))[0]
"""


def gif_bomb(side, count):
    frame = b"," + struct.pack("<4HB", 0, 0, side, side, 0) + b"\x02\x02\x4c\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + b"\0" * 6 + frame * count + b";"


def test_bombs_are_refused_without_memory_for_their_pixels():
    jpeg = bytearray(SAMPLES["jpeg"])
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 12_000, 11_000)
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(b"\0" * 200_000_000, 9))
    bombs = [
        (png_header(1, 80_000_000, chunk(b"IDAT", b"x")), "image_dimensions"),
        (png_header(12_000, 12_000, chunk(b"IDAT", b"x")), "image_too_many_pixels"),
        (bytes(jpeg), "image_too_many_pixels"),
        (gif_bomb(2000, 40), "image_too_many_pixels"),
        (gif_bomb(65_535, 1), "image_dimensions"),
        (gif_bomb(8, 100_000), "image_multi_frame"),
        (SAMPLES["png"][:33] + text + SAMPLES["png"][33:], "raster"),
        (SAMPLES["png"][:33] + chunk(b"iCCP", text[8:-4]) + SAMPLES["png"][33:], "raster"),
    ]
    fed = b"".join(struct.pack(">I", len(data)) + data for data, _ in bombs) + struct.pack(">I", 0)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", BOMBS], input=fed, capture_output=True, env=environment, check=True)
    assert done.stdout.decode().split() == [code for _, code in bombs]


def test_a_jpeg_of_countless_scans_is_refused():
    data = SAMPLES["progressive"]
    last = data.rindex(b"\xff\xda")
    scan = data[last : data.rindex(b"\xff\xd9")]
    assert outcome(data[:last] + scan * 100 + b"\xff\xd9") == "image_corrupt"


@pytest.fixture
def pillow_flags(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)


@pytest.mark.parametrize("name", SAMPLES)
def test_flags_that_others_set_in_pillow_change_nothing(name, pillow_flags):
    whole, half = SAMPLES[name], SAMPLES[name][: len(SAMPLES[name]) // 2]
    expected = outcome(whole), outcome(half)
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    Image.MAX_IMAGE_PIXELS = None
    assert (outcome(whole), outcome(half)) == expected
    Image.MAX_IMAGE_PIXELS = 40 * 24 - 1
    assert (outcome(whole), outcome(half)) == expected
    Image.MAX_IMAGE_PIXELS = 1
    refused = "image_too_many_pixels" if name in ("webp", "lossless", "webps") else expected[0]
    assert outcome(whole) == refused


def test_a_short_zlib_stream_is_found_whatever_the_flag(pillow_flags):
    short = zlib.compress(b"\0" * 16 * 9)
    data = png_header(16, 16, chunk(b"IDAT", short))
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    assert outcome(data) == "image_corrupt"


def test_threads_agree_while_another_flips_the_flags(pillow_flags):
    expected = {name: outcome(data) for name, data in SAMPLES.items()}
    stop, wrong = threading.Event(), []

    def flip():
        while not stop.is_set():
            ImageFile.LOAD_TRUNCATED_IMAGES = not ImageFile.LOAD_TRUNCATED_IMAGES
            Image.MAX_IMAGE_PIXELS = None if Image.MAX_IMAGE_PIXELS else 10**9

    def work():
        wrong.extend(n for _ in range(5) for n, data in SAMPLES.items() if outcome(data) != expected[n])

    flipper = threading.Thread(target=flip)
    workers = [threading.Thread(target=work) for _ in range(4)]
    for thread in (flipper, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    stop.set()
    flipper.join()
    assert wrong == []


@pytest.mark.parametrize(
    "failure",
    [SyntaxError, IndexError, TypeError, struct.error, NotImplementedError, MemoryError, RecursionError, UserWarning],
)
def test_whatever_a_decoder_raises_gets_a_name(failure, monkeypatch):
    def fail(*_):
        raise failure("boom")

    monkeypatch.setattr(Image, "frombytes", fail)
    with pytest.raises(errors.ImageError) as caught:
        decode(SAMPLES["png"])
    assert isinstance(caught.value.__cause__, failure)


def test_an_interrupt_passes(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Image, "frombytes", interrupt)
    with pytest.raises(KeyboardInterrupt):
        decode(SAMPLES["png"])


def test_nothing_is_warned_of():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for data in SAMPLES.values():
            outcome(data)
            outcome(data[:-20])
    assert seen == []
