from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from safevlm_sdk import errors
from safevlm_sdk.raster import Limits, decode, encode_png, from_array, raster_digest, read_source
from safevlm_sdk.resize import resize

ALL = Limits(frames="all", mpo="judge")
TURNS = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # orientation -> Image.Transpose of the truth


def picture(width=40, height=24, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width, height, depth, kind, rows, *extra):
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [chunk(b"IHDR", header), *(chunk(*e) for e in extra), chunk(b"IDAT", body), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def oriented(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "JPEG"])
def test_bytes_path_file_and_memoryview_give_one_raster(kind, tmp_path):
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(Image.fromarray(picture()), kind, **options)
    path = tmp_path / "wrong.txt"
    path.write_bytes(data)
    rasters = [decode(s) for s in (data, path, str(path), io.BytesIO(data), memoryview(data), bytearray(data))]
    assert {raster.frames[0].sha256 for raster in rasters} == {rasters[0].frames[0].sha256}
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(rasters[0].frames[0].pixels, np.asarray(image.convert("RGB")))
    assert rasters[0].format == kind
    assert rasters[0].source_size == (40, 24)
    assert rasters[0].source_sha256 is not None
    assert not rasters[0].frames[0].pixels.flags.writeable


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}])
@pytest.mark.parametrize("size", [(8, 8), (17, 33), (100, 75)])
def test_jpeg_equals_pillow(mode, options, size):
    data = saved(Image.fromarray(picture(*size)).convert(mode), "JPEG", quality=80, **options)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(decode(data).frames[0].pixels, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("value", [*TURNS, 0, 9, 255])
def test_orientation_equals_the_turned_truth(kind, value):
    image = Image.fromarray(picture())
    options = {"lossless": True} if kind == "WEBP" else {}
    flat = decode(saved(image, kind, **options)).frames[0].pixels
    raster = decode(saved(image, kind, exif=oriented(value), **options))
    truth = Image.fromarray(flat)
    if TURNS.get(value) is not None:
        truth = truth.transpose(Image.Transpose(TURNS[value]))
    assert np.array_equal(raster.frames[0].pixels, np.asarray(truth))
    assert raster.source_size == truth.size


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_grey_png_of_every_depth_is_scaled_by_its_range(depth):
    levels = np.random.default_rng(depth).integers(0, 2**depth, (16, 16))
    bits = ((levels[..., None] >> np.arange(depth)[::-1]) & 1).reshape(16, -1).astype(np.uint8)
    rows = [row.tobytes() for row in np.packbits(bits, axis=1)]
    found = decode(png(16, 16, depth, 0, rows)).frames[0].pixels
    truth = np.round(levels * 255 / (2**depth - 1)).astype(int)
    assert np.abs(found - truth[..., None]).max() <= (0 if depth == 16 else 1)


def test_16_bit_colour_is_within_one_level():
    levels = np.random.default_rng(1).integers(0, 65536, (16, 16, 3)).astype(">u2")
    found = decode(png(16, 16, 16, 2, [row.tobytes() for row in levels])).frames[0].pixels
    assert np.abs(found - levels.astype(float) * 255 / 65535).max() <= 1


def test_palette_transparency_is_alpha():
    rows = [bytes([0, 1] * 8)] * 16
    data = png(16, 16, 8, 3, rows, (b"PLTE", bytes([10, 20, 30, 40, 50, 60])), (b"tRNS", b"\0"))
    frame = decode(data).frames[0]
    assert frame.pixels[0, 0].tolist() == [255, 255, 255]
    assert frame.pixels[0, 1].tolist() == [40, 50, 60]
    assert dict(frame.variants)["alpha-dropped"][0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize(("depth", "key"), [(8, 7), (16, 7)])
def test_grey_key_is_alpha(depth, key):
    row = np.arange(16).astype(">u2" if depth == 16 else "u1").tobytes()
    frame = decode(png(16, 16, depth, 0, [row] * 16, (b"tRNS", struct.pack(">H", key)))).frames[0]
    assert (frame.pixels[0, :, 0] == 255).tolist() == [level == key for level in range(16)]


def test_colour_key_is_alpha():
    rows = [bytes([1, 2, 3, 1, 2, 4] * 8)] * 16
    frame = decode(png(16, 16, 8, 2, rows, (b"tRNS", struct.pack(">3H", 1, 2, 3)))).frames[0]
    assert frame.pixels[0, :2].tolist() == [[255, 255, 255], [1, 2, 4]]


@pytest.mark.parametrize("attack", ["text in alpha", "hidden under alpha 0", "two faces"])
def test_alpha_attacks_show_in_a_variant(attack):
    text = np.zeros((32, 32), dtype=np.uint8)
    text[8:24, 12:20] = 255
    rgba = np.zeros((32, 32, 4), dtype=np.uint8)
    if attack == "text in alpha":
        rgba[..., 3], shows = text, "white"
    elif attack == "hidden under alpha 0":
        rgba[..., :3], shows = text[..., None], "alpha-dropped"
    else:
        rgba[..., :3], rgba[..., 3], shows = 255, text, "black"
    frame = decode(saved(Image.fromarray(rgba), "PNG")).frames[0]
    views = {"white": frame.pixels, **dict(frame.variants)}
    assert set(views) == {"white", "black", "grey", "alpha-dropped"}
    assert np.ptp(views[shows]) == 255


@given(st.binary(min_size=256, max_size=256))
@settings(max_examples=50, deadline=None)
def test_compositing_is_exact(content):
    rgba = np.frombuffer(content, dtype=np.uint8).reshape(8, 8, 4).copy()
    rgba[0, 0, 3] = 0
    frame = decode(saved(Image.fromarray(rgba), "PNG")).frames[0]
    colours, alpha = rgba[..., :3].astype(int), rgba[..., 3:].astype(int)
    for found, ground in [(frame.pixels, 255), *zip(dict(frame.variants).values(), (0, 128), strict=False)]:
        assert np.array_equal(found, (alpha * colours + (255 - alpha) * ground + 127) // 255)


def test_opaque_alpha_changes_nothing():
    opaque = np.dstack([picture(), np.full((24, 40), 255, dtype=np.uint8)])
    frame = decode(saved(Image.fromarray(opaque), "PNG")).frames[0]
    assert frame.variants == ()
    assert np.array_equal(frame.pixels, picture())


@given(st.integers(8, 90), st.integers(8, 90), st.integers(1, 100))
@settings(max_examples=40, deadline=None)
def test_cap_keeps_the_shape_and_never_enlarges(width, height, cap):
    pixels = picture(width, height)
    found = decode(pixels, max_side=cap).frames[0].pixels
    assert max(found.shape[:2]) == min(cap, max(width, height))
    if cap >= max(width, height):
        assert np.array_equal(found, pixels)
    else:
        size = (found.shape[1], found.shape[0])
        truth = resize(Image.fromarray(pixels), size, Image.Resampling.BICUBIC)
        assert np.array_equal(found, np.asarray(truth))
        assert abs(size[0] - width * cap / max(width, height)) <= 1


def frames_of(kind, count=3, **options):
    images = [Image.fromarray(picture(seed=seed)) for seed in range(count)]
    if kind == "WEBP":
        options["lossless"] = True
    return saved(images[0], kind, save_all=True, append_images=images[1:], **options)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "MPO"])
def test_further_frames_are_refused_or_all_judged(kind):
    data = frames_of(kind)
    with pytest.raises(errors.ImageMultiFrame):
        decode(data)
    with pytest.raises(errors.ImageMultiFrame):
        decode(data, limits=Limits(frames="all", mpo="judge", max_frames=2))
    raster = decode(data, limits=ALL)
    assert [frame.index for frame in raster.frames] == [0, 1, 2]
    with Image.open(io.BytesIO(data)) as image:
        for index, frame in enumerate(raster.frames):
            image.seek(index)
            assert np.array_equal(frame.pixels, np.asarray(image.convert("RGB")))


def test_mpo_is_refused_even_where_all_frames_are_judged():
    with pytest.raises(errors.ImageMultiFrame):
        decode(frames_of("MPO"), limits=Limits(frames="all"))
    assert len(decode(frames_of("MPO"), limits=Limits(mpo="judge")).frames) == 3


def test_apng_default_picture_is_judged_as_a_frame():
    data = frames_of("PNG", default_image=True)
    assert len(decode(data, limits=ALL).frames) == 3
    assert np.array_equal(decode(data, limits=ALL).frames[0].pixels, picture(seed=0))


@pytest.mark.parametrize("dispose", [0, 1, 2])
def test_apng_frames_that_replace_equal_pillow(dispose):
    images = [Image.fromarray(picture(channels=4, seed=seed)) for seed in range(3)]
    data = saved(images[0], "PNG", save_all=True, append_images=images[1:], disposal=dispose, blend=0)
    raster = decode(data, limits=ALL)
    with Image.open(io.BytesIO(data)) as image:
        for index, frame in enumerate(raster.frames):
            image.seek(index)
            rgba = np.asarray(image.convert("RGBA")).astype(int)
            truth = (rgba[..., :3] * rgba[..., 3:] + 255 * (255 - rgba[..., 3:]) + 127) // 255
            assert np.array_equal(frame.pixels, truth)


def test_apng_frames_that_lie_over_are_composited():
    layers = [picture(channels=4, seed=seed) for seed in range(2)]
    images = [Image.fromarray(layer) for layer in layers]
    data = saved(images[0], "PNG", save_all=True, append_images=images[1:], disposal=0, blend=1)
    found = decode(data, limits=ALL).frames[1].pixels
    truth = np.full((24, 40, 3), 255.0)
    for layer in layers:
        alpha = layer[..., 3:] / 255
        truth = alpha * layer[..., :3] + (1 - alpha) * truth
    assert np.abs(found - truth).max() <= 2


def test_pil_image_is_judged_wherever_it_stands():
    with Image.open(io.BytesIO(frames_of("GIF"))) as image:
        image.seek(2)
        with pytest.raises(errors.ImageMultiFrame):
            decode(image)
        raster = decode(image, limits=ALL)
        assert image.tell() == 2
    expected = decode(frames_of("GIF"), limits=ALL)
    assert [f.sha256 for f in raster.frames] == [f.sha256 for f in expected.frames]
    assert raster.format == "PIL"


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "PA", "RGBA", "CMYK", "YCbCr", "HSV", "RGBX", "I;16"])
def test_pil_modes_are_read(mode):
    image = Image.new(mode, (16, 16))
    assert decode(image).frames[0].pixels.shape == (16, 16, 3)


@pytest.mark.parametrize("mode", ["I", "F", "LAB"])
def test_pil_modes_without_a_fixed_range_are_refused(mode):
    with pytest.raises(errors.ImageMode):
        decode(Image.new(mode, (16, 16)))


def test_pil_image_of_another_format_is_refused():
    with Image.open(io.BytesIO(saved(Image.new("RGB", (16, 16)), "BMP"))) as image:
        with pytest.raises(errors.ImageFormat):
            decode(image)
        assert decode(image.copy()).format == "PIL"


@pytest.mark.parametrize(
    "array",
    [np.zeros((16, 16), np.uint8), np.zeros((16, 16, 4), np.uint8), np.zeros((16, 16, 3)), np.zeros((0, 9, 3), "u1")],
)
def test_arrays_of_another_shape_are_refused(array):
    for take in (decode, from_array, encode_png):
        with pytest.raises(errors.ImageInput):
            take(array)


def test_camera_pixels_are_not_copied_and_arrays_to_decode_are():
    pixels = picture()
    frame = from_array(pixels)
    assert np.shares_memory(frame.pixels, pixels)
    assert not frame.pixels.flags.writeable
    assert pixels.flags.writeable
    assert frame.sha256 == raster_digest(pixels) == decode(pixels).frames[0].sha256
    assert not np.shares_memory(decode(pixels).frames[0].pixels, pixels)


def test_png_goes_on_bit_for_bit_and_without_metadata():
    data = encode_png(picture())
    assert decode(data).frames[0].sha256 == raster_digest(picture())
    assert b"tEXt" not in data
    assert b"eXIf" not in data


def test_paths_are_regular_files_only(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    empty = tmp_path / "empty.png"
    empty.touch()
    cases = {
        errors.ImageNotFound: tmp_path / "none.jpg",
        errors.ImageNotAFile: tmp_path,
        errors.ImageEmpty: empty,
    }
    for kind, path in cases.items():
        with pytest.raises(kind) as caught:
            decode(path)
        assert str(tmp_path) not in str(caught.value)
    with pytest.raises(errors.ImageNotAFile):
        decode(str(pipe))
    with pytest.raises(errors.ImageNotFound):
        decode("https://example.org/a.png")


def test_no_more_than_the_limit_is_read(tmp_path):
    class Endless(io.RawIOBase):
        given = 0

        def read(self, size=-1):
            self.given += size
            return b"x" * size

    endless = Endless()
    limits = Limits(max_bytes=1000)
    with pytest.raises(errors.ImageTooLarge):
        read_source(endless, limits)
    assert endless.given == 1001
    path = tmp_path / "big"
    path.write_bytes(b"x" * 1001)
    for source in (path, b"x" * 1001):
        with pytest.raises(errors.ImageTooLarge):
            read_source(source, limits)
    assert read_source(b"x" * 1000, limits) == b"x" * 1000


@pytest.mark.parametrize("source", [None, 7, io.StringIO("text"), ["a.png"]])
def test_other_types_are_refused(source):
    with pytest.raises(errors.ImageInput):
        decode(source)


@pytest.mark.parametrize("wrong", [{"max_bytes": 0}, {"max_aspect": float("nan")}, {"formats": ("TIFF",)}])
def test_limits_are_finite_and_known(wrong):
    with pytest.raises(errors.OptionError):
        Limits(**wrong)
