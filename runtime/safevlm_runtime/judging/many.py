"""Many images: the next ones are decoded while the gates judge."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice

from safevlm_runtime.judging.batches import Prepared, Refused
from safevlm_runtime.judging.checker import Checker
from safevlm_runtime.judging.rulebook import Rulebook
from safevlm_sdk.raster import ImageSource
from safevlm_sdk.verdict import Verdict

_DECODERS = 2


def judge_many(
    checker: Checker,
    rules_now: Callable[[], Rulebook],
    images: Iterable[ImageSource],
    batch_size: int,
    source: str | None,
) -> list[Verdict]:
    """A verdict on each image, in order.

    Args:
        checker: Decodes and judges.
        rules_now: The rules in force; asked once for each batch, which is decoded and judged under them.
        images: A bad one does not harm the others.
        batch_size: Images that are decoded together, and views per run of a graph.
        source: Where all of them come from.

    Raises:
        ValueError: `batch_size` is below 1.
        TypeError: A single path or bytes was passed.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; give at least 1")
    if isinstance(images, (str, bytes, os.PathLike)):
        raise TypeError("check_many takes several images; put a single one into a list, or use check")
    verdicts: list[Verdict] = []
    coming = iter(images)
    with ThreadPoolExecutor(_DECODERS, thread_name_prefix="safevlm-decode") as pool:

        def submit() -> tuple[Rulebook, list[Future[Prepared | Refused]]]:
            rules = rules_now()
            prepared = partial(checker.prepared, limits=rules.limits)
            return rules, [pool.submit(prepared, image) for image in islice(coming, batch_size)]

        rules, waiting = submit()
        while waiting:
            panel, ready = rules.panel(source), [future.result() for future in waiting]
            rules, waiting = submit()
            verdicts += checker.judge(panel, ready, batch_size)
    return verdicts
