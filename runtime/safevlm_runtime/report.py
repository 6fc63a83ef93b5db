"""A self-contained HTML page that shows what the gate said of each image, and where it looked."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safevlm_runtime.judging.tiles import Box, scaled_box
from safevlm_sdk.atomic import publish_file
from safevlm_sdk.errors import ImageError, OptionError
from safevlm_sdk.raster import Raster
from safevlm_sdk.report_style import html_page
from safevlm_sdk.verdict import Verdict

Decode = Callable[[Path], Raster]

THUMBNAIL_SIDE = 320
HEAT_RGB = (255, 40, 0)
STEPS = ("decode", "preprocess", "infer", "decide", "total")


def require_writable(out: Path, images: Sequence[Path]) -> None:
    """Checks, before any work, that a report may be written there.

    Raises:
        OptionError: The name is no HTML file's, an image lies there, or the folder does not exist.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise OptionError(f"the report {out} must end in .html: another file could be lost")
    if any(out.resolve() == image.resolve() for image in images):
        raise OptionError(f"the report {out} is one of the images; give another name")
    if out.is_dir() or not out.resolve().parent.is_dir():
        raise OptionError(f"the report {out} cannot be written: its folder does not exist, or it is a folder")


def write_report(out: Path, images: Sequence[Path], verdicts: Sequence[Verdict], decode: Decode) -> None:
    """Writes the page as a whole; it needs no network and no other file.

    Args:
        out: The HTML file.
        images: The files that were judged.
        verdicts: `verdicts[i]` is of `images[i]`.
        decode: `Runtime.raster`, to show each picture as it was judged.

    Raises:
        OptionError: The page cannot be written there.
    """
    require_writable(out, images)
    page = render_report(images, verdicts, decode)
    publish_file(out, page.encode("utf-8", "backslashreplace"), error=OptionError)


def render_report(images: Sequence[Path], verdicts: Sequence[Verdict], decode: Decode) -> str:
    """The page's HTML; the arguments are those of `write_report`."""
    cards = "\n".join(_card(path, verdict, decode) for path, verdict in zip(images, verdicts, strict=True))
    counts = [sum(v.action.value == action for v in verdicts) for action in ("allow", "caution", "block")]
    failed = sum(v.error is not None for v in verdicts)
    body = f"""<header>
<h1>Verdicts on {len(verdicts)} image{"" if len(verdicts) == 1 else "s"}</h1>
<p class="counts"><b class="allow">{counts[0]} allowed</b> <b class="caution">{counts[1]} cautioned</b>
<b class="block">{counts[2]} blocked</b>{f" <b>{failed} of them because the gate failed</b>" if failed else ""}</p>
{_coverage(verdicts)}
<p>A verdict speaks of the image alone, not of the question beside it.</p>
</header>
<main>
{cards}
</main>"""
    return html_page("SafeVLM: verdicts", body, images=True)


def _coverage(verdicts: Sequence[Verdict]) -> str:
    covered = sorted({category for verdict in verdicts for category in verdict.covered})
    uncovered = sorted({category for verdict in verdicts for category in verdict.uncovered})
    text = f"<p>Looked for: <b>{escape(', '.join(covered) or 'nothing')}</b>. Nothing else was looked for"
    if uncovered:
        text += f"; the policy also wants {escape(', '.join(uncovered))}, which no loaded bundle covers"
    return text + ".</p>"


def _card(path: Path, verdict: Verdict, decode: Decode) -> str:
    level = "" if verdict.level is None else f", level {verdict.level.name.lower()}"
    said = f"gate failed: {verdict.error}" if verdict.error else f"{verdict.category}{level}"
    observed = "" if verdict.observed is None else f"; the policy only observes: {verdict.observed.value}"
    rows = "".join(
        f"<tr><th scope='row'>{escape(name)}</th><td><meter max='1' value='{p:.4f}'></meter> {p:.3f}</td></tr>"
        for name, p in verdict.categories.items()
    )
    timings = ", ".join(f"{step} {verdict.timings_ms[step]:.1f}" for step in STEPS if step in verdict.timings_ms)
    return f"""<article class="{verdict.action.value}">
{_picture(path, verdict, decode)}
<div>
<h2>{escape(path.name)}</h2>
<p class="action"><b class="{verdict.action.value}">{verdict.action.value}</b> {escape(said)}{observed}</p>
<p>{escape(verdict.reason)}</p>
<table>{rows}</table>
<p class="small">ms: {timings}. Provider: {escape(verdict.provider or "none")}.</p>
<p class="small">raster {escape(verdict.raster_sha256 or "none")}</p>
</div>
</article>"""


def _picture(path: Path, verdict: Verdict, decode: Decode) -> str:
    """The thumbnail of exactly what was judged, with the heatmap over it; none if the file has changed since."""
    pixels = _judged_pixels(path, verdict, decode)
    if pixels is None:
        return "<figure><p>no picture: a video, no judged image, or the file has changed since</p></figure>"
    thumbnail = Image.fromarray(pixels)
    thumbnail.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    heat = ""
    if verdict.attention is not None:
        height, width = pixels.shape[:2]
        region = verdict.region or (0, 0, width, height)
        overlay = _overlay(verdict.attention, scaled_box(region, (width, height), thumbnail.size), thumbnail.size)
        heat = f'<img class="heat" alt="where the head looked" src="{_data_uri(overlay, "PNG")}">'
    picture = f'<img alt="{escape(path.name)}" src="{_data_uri(thumbnail, "JPEG")}">'
    caption = "<figcaption>red: where the head looked; point at the picture to hide it</figcaption>"
    return f'<figure tabindex="0">{picture}{heat}{caption}</figure>'


def _judged_pixels(path: Path, verdict: Verdict, decode: Decode) -> NDArray[np.uint8] | None:
    if verdict.raster_sha256 is None:
        return None
    try:
        raster = decode(path)
    except ImageError:
        return None
    same = [frame.pixels for frame in raster.frames if frame.sha256 == verdict.raster_sha256]
    return same[0] if same else None


def _overlay(attention: NDArray[np.float32], box: Box, size: tuple[int, int]) -> Image.Image:
    """An RGBA picture of the attention over a box, as strong as half opacity where it is largest."""
    strength = attention / max(float(attention.max()), 1e-12)
    left, top, right, bottom = box
    looked = Image.fromarray((strength * 128).astype(np.uint8)).resize(
        (right - left, bottom - top), Image.Resampling.BICUBIC
    )
    alpha = Image.new("L", size)
    alpha.paste(looked, (left, top))
    overlay = Image.new("RGBA", size, (*HEAT_RGB, 0))
    overlay.putalpha(alpha)
    return overlay


def _data_uri(image: Image.Image, kind: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, quality=85)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
