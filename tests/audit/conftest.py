"""A small data set with everything that a data set has, and how to audit it in this process."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from safevlm_runtime.audit import Judge, JudgeSettings, LocalPool, Watching, open_source, run_audit


def png(red: int, green: int, blue: int, mark: int = 0) -> bytes:
    """A PNG of one colour; `mark` tells apart what looks the same."""
    pixels = np.full((32, 32, 3), (red, green, blue), dtype=np.uint8)
    pixels[0, 0] = (mark % 256, mark // 256, 0)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def encoded() -> Callable[..., bytes]:
    """Makes a PNG: red is `illegal_risk`, blue is `privacy`, green is safe."""
    return png


@pytest.fixture
def tar() -> Callable[..., None]:
    """Writes an archive of (name, bytes)."""

    def write(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
        with tarfile.open(path, "w") as archive:
            for name, data in members:
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))

    return write


@pytest.fixture
def images(tmp_path) -> Path:
    """Forty images in two folders, of which some are risky, some copies, some broken and some no images."""
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    for number in range(40):
        colours = ((0, 250, 0), (0, 250, 0), (250, 0, 0), (0, 0, 250))[number % 4]
        place = folder if number % 2 else folder / "more"
        (place / f"{number:03}.png").write_bytes(png(*colours, mark=number if number % 5 else 0))
    (folder / "cut.png").write_bytes(png(0, 250, 0)[:-30])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "labels.txt").write_text("no image")
    (folder / "named_otherwise.dat").write_bytes(png(250, 0, 0, mark=77))
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    return folder


@pytest.fixture
def audited(bundle) -> Callable[..., Path]:
    """Audits a source under the bundle of the root conftest; gives the folder that it made."""

    def audit(source, out: Path, *, jobs: int = 2, watching: Watching | None = None, **settings) -> Path:
        opened = open_source(str(source)) if isinstance(source, (str, Path)) else source
        with Judge.load(JudgeSettings(**{"bundles": (str(bundle),), "digests": None} | settings)) as judge:
            run_audit(opened, out, judge, lambda known: LocalPool(judge, jobs, known), watching)
        return out

    return audit
