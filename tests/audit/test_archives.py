"""Tar archives whose members share names, have holes, or are made to break whoever reads them."""

from __future__ import annotations

import io
import tarfile
from collections import Counter

import pytest

from safevlm_runtime.audit import open_source
from safevlm_runtime.audit.reader import Reader
from safevlm_sdk.errors import SafeVLMError
from safevlm_sdk.raster import Limits


@pytest.fixture
def pictures(encoded):
    return [encoded(0, 250, 0, mark=number) for number in range(7)]


def read_all(path):
    """{name: bytes, or the error's code}."""
    reader, found = Reader(Limits()), {}
    for item in open_source(str(path)).items():
        assert item.name not in found
        try:
            found[item.name] = reader.read(item)
        except SafeVLMError as problem:
            found[item.name] = problem.code
    return found


def test_archives_of_one_name_in_several_folders(tmp_path, pictures, tar):
    for folder, data in (("a-0", pictures[0]), ("a-1", pictures[1])):
        (tmp_path / folder).mkdir()
        tar(tmp_path / folder / "shard.tar", [("0.png", data)])
    assert read_all(tmp_path / "a-{0..1}" / "shard.tar") == {
        "a-0/shard.tar#0.png": pictures[0],
        "a-1/shard.tar#0.png": pictures[1],
    }


def sparse(name, data):
    """The blocks of a member in GNU's sparse format 1.0: one piece, and a hole behind it."""
    pieces = f"1\n0\n{len(data)}\n".encode().ljust(512, b"\0") + data
    member = tarfile.TarInfo("GNUSparseFile/" + name)
    member.size = len(pieces)
    size = str(2**20)
    member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": name}
    member.pax_headers |= {"GNU.sparse.realsize": size}
    return member, pieces


def test_members_of_one_name_links_and_members_with_holes(tmp_path, pictures):
    link = tarfile.TarInfo("link.png")
    link.type, link.linkname = tarfile.LNKTYPE, "0.png"
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for number, name in enumerate(("0.png", "0.png", "1.png", "0.png@1024", "0.png")):
            member = tarfile.TarInfo(name)
            member.size = len(pictures[number])
            archive.addfile(member, io.BytesIO(pictures[number]))
        archive.addfile(link)
        for name, data in (("holes.png", b"any"), ("unnamed", pictures[5]), ("holes.txt", b"any")):
            member, pieces = sparse(name, data)
            archive.addfile(member, io.BytesIO(pieces))
    passed_over = Counter()
    names = [item.name for item in open_source(str(tmp_path / "a.tar")).items(passed_over)]
    assert passed_over == {"links in archives": 1, "files that are no images": 1}
    assert list(read_all(tmp_path / "a.tar").values()) == [*pictures[:5], "item_unusable", "item_unusable"]
    assert names == [f"a.tar#{name}" for name in (
        "0.png", "0.png@1024", "1.png", "0.png@1024@3072", "0.png@4096", "holes.png", "unnamed",
    )]  # fmt: skip


def header(kind, size):
    """A member's block with a size that no archive has; tarfile itself does not write one."""
    block = bytearray(tarfile.TarInfo("x.png").tobuf(tarfile.GNU_FORMAT))
    block[124:136] = (b"\xff" if size < 0 else b"\x80") + (size % 2**88).to_bytes(11, "big")
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    "hostile",
    [
        header(b"L", 2**70),  # of a name, more than can be counted
        header(b"x", 2**60),  # more than there is memory
        header(b"0", 2**80),
        header(b"0", -512),  # back to itself
        header(b"5", -1),
        (header(b"L", 512) + b"x".ljust(512, b"\0")) * 2000,  # names of names of names
    ],
)
def test_an_archive_that_breaks_its_reader_is_a_row(tmp_path, pictures, hostile, tar):
    tar(tmp_path / "a.tar", [("0.png", pictures[0])])
    first = (tmp_path / "a.tar").read_bytes()[:1024]
    (tmp_path / "a.tar").write_bytes(first + hostile + first + b"\0" * 1024)
    tar(tmp_path / "b.tar", [("1.png", pictures[1])])
    found = read_all(tmp_path)
    assert found.pop("a.tar#x.png", "image_too_large") == "image_too_large"
    assert found == {"a.tar#0.png": pictures[0], "a.tar#": "item_unusable", "b.tar#1.png": pictures[1]}


@pytest.mark.parametrize("kept", [None, 5 * 512 - 100])
def test_a_header_that_is_damaged_or_cut_is_a_row(tmp_path, pictures, kept, tar):
    tar(tmp_path / "a.tar", [(f"{number}.png", data) for number, data in enumerate(pictures)])
    whole = bytearray((tmp_path / "a.tar").read_bytes())
    whole[4 * 512] ^= 1  # of the third member
    (tmp_path / "a.tar").write_bytes(whole[:kept])
    assert read_all(tmp_path / "a.tar") == {
        "a.tar#0.png": pictures[0],
        "a.tar#1.png": pictures[1],
        "a.tar#": "item_unusable",
    }
