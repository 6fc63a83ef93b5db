"""What is said of a file that is no image that can be read: the format found, and what to do."""

from __future__ import annotations

import io
import os

import pytest
from PIL import Image

from safevlm_sdk import errors
from safevlm_sdk.raster import Limits, decode


def encoded(kind):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (9, 99, 9)).save(buffer, kind)
    return buffer.getvalue()


def box(*brands, size=None):
    content = b"ftyp" + b"".join(brands)
    return (len(content) + 4 if size is None else size).to_bytes(4, "big") + content + bytes(64)


def message(source, **limits):
    with pytest.raises(errors.ImageError) as caught:
        decode(source, limits=Limits(**limits))
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("BMP", encoded("BMP")),
        ("TIFF", encoded("TIFF")),
        ("TIFF", b"MM\0+" + bytes(60)),
        ("AVIF", encoded("AVIF")),
        ("AVIF", box(b"mif1", bytes(4), b"mif1", b"avif")),
        ("HEIC", box(b"heic", bytes(4), b"mif1", b"heic")),
        ("HEIC", box(b"heic", size=2**32 - 1)),
        ("JPEG XL", b"\xff\x0a" + bytes(60)),
        ("JPEG XL", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(60)),
    ],
)
def test_a_format_that_is_not_read_is_named(name, data):
    assert message(data) == f"{name} is not read; convert the image to JPEG, PNG, WEBP or GIF"


@pytest.mark.parametrize(
    "data",
    [b"BM, a letter that begins so", b"BM", b"no image", box(b"isom"), box(size=0), b"\0\0\0\x08ftyp", b"%PDF-1.7"],
)
def test_what_is_no_image_is_not_called_one(data):
    assert message(data) == "the bytes are of no known image format; convert the image to JPEG, PNG, WEBP or GIF"


def test_what_a_limit_leaves_out_is_named_too():
    assert message(encoded("GIF"), formats=("JPEG",)) == "GIF is not read; convert the image to JPEG"


def test_a_missing_file_is_told_for_the_command_line_and_for_python(tmp_path):
    said = "no file lies at the path; check its name, and the folder that it starts from"
    assert message(tmp_path / "none.jpg") == said
    assert message("/none.jpg") == f"{said}; image data is passed as bytes, for a string is always a path"


def test_a_folder_is_told_from_a_pipe(tmp_path):
    assert message(tmp_path) == "the path is a folder; pass the paths of the files in it"
    os.mkfifo(tmp_path / "pipe")
    assert message(tmp_path / "pipe").startswith("the path is a device, pipe or socket; ")
