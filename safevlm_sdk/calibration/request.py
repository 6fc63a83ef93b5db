"""What `safevlm calibrate` is asked to do, checked before hours of judging begin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from safevlm_sdk.calibration.choose import Demand
from safevlm_sdk.calibration.family import check_policy
from safevlm_sdk.calibration.images import Labelled, read_risky, read_safe
from safevlm_sdk.calibration.run import Subject
from safevlm_sdk.calibration.samples import Grouped, Seen, grouped, judge_images
from safevlm_sdk.errors import CalibrationError, OptionError

Progress = Callable[[Sequence[Labelled]], Sequence[Labelled]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """Tiles that a bundle is to look at from now on, at the scale of its raster; see `ViewPlan`."""

    tile: int
    overlap: int
    max_views: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Images, bounds and destinations.

    Attributes:
        safe: Folder or JSON lines file of harmless images.
        risky: Folder or JSON lines file of risky images; None for none.
        demand: The bounds.
        out: Folder of the new bundle or checkpoint.
        page: The HTML page; None for `<out>.html`.
        policy: A policy file that the bounds are to hold under; None for the bundle's own or the default.
        progress: Wraps the images while they are judged; None shows nothing.
        tiling: New tiles; None keeps the view plan. Bundles only.
    """

    safe: Path
    risky: Path | None
    demand: Demand
    out: Path
    page: Path | None = None
    policy: Path | None = None
    progress: Progress | None = None
    tiling: Tiling | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JudgedImages:
    """All images, judged and grouped, and how many files or rows were passed over."""

    data: Grouped
    passed_over: int


def place_of_page(request: Request, source: Path) -> Path:
    """Where the page goes.

    Args:
        request: The request.
        source: The bundle or checkpoint that is calibrated.

    Raises:
        CalibrationError: The new bundle would replace the one that it comes from, or images.
        OptionError: No page can be written there.
    """
    out, place = request.out.resolve(), source.resolve()
    if out.is_relative_to(place) or place.is_relative_to(out):
        raise CalibrationError(
            f"{request.out}: is the bundle or checkpoint that is calibrated, or lies in it or around it; name a new "
            "folder, so that the old thresholds are not lost"
        )
    for images in (request.safe, request.risky):
        if images is not None and (images.resolve().is_relative_to(out) or out == images.resolve()):
            raise CalibrationError(f"{request.out}: holds the images {images}; name another folder")
    page = request.page or Path(f"{request.out}.html")
    if page.suffix.lower() not in (".html", ".htm"):
        raise OptionError(f"the page {page} must end in .html: another file could be lost")
    if page.resolve().is_relative_to(out):
        raise OptionError(f"the page {page} lies in {request.out}, which holds no other file; name another place")
    for folder in (source, request.safe, request.risky):
        if folder is not None and folder.is_dir() and page.resolve().is_relative_to(folder.resolve()):
            raise OptionError(f"the page {page} lies in {folder}, which is to stay as it is; name another --page")
    missing = request.page is not None and not page.resolve().parent.is_dir()
    if missing or page.is_dir():
        raise OptionError(f"the page {page} cannot be written: its folder does not exist, or it is a folder")
    return page


def judge_request(request: Request, subject: Subject, judge: Callable[[Path], Seen]) -> JudgedImages:
    """Reads the listings and judges every image.

    Raises:
        DataError: The images cannot be read.
        CalibrationError: The policy or the images do not allow a calibration.
    """
    check_policy(subject.policy, subject.rule.covered)
    if not subject.judged:
        raise CalibrationError(
            f"policy {subject.policy.name!r} wants nothing that the gate covers ({', '.join(subject.rule.covered)})"
        )
    if request.demand.miss_at_most is not None and request.risky is None:
        raise OptionError("--miss-at-most needs risky images of every category; give --risky")
    listings = [read_safe(request.safe, subject.risks)]
    if request.risky is not None:
        listings.append(read_risky(request.risky, subject.rule.covered, subject.risks))
    images = [image for listing in listings for image in listing.images]
    shown = images if request.progress is None else request.progress(images)
    return JudgedImages(
        data=grouped(judge_images(shown, judge)), passed_over=sum(listing.passed_over for listing in listings)
    )
