"""From an item to its row, one item at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from types import TracebackType

import msgspec

from safevlm_runtime.audit.hook import HashHook, ask, load_hook
from safevlm_runtime.audit.item import Item
from safevlm_runtime.audit.reader import Reader
from safevlm_runtime.audit.row import Row
from safevlm_runtime.judging.batches import describe_failure
from safevlm_runtime.runtime import Runtime
from safevlm_sdk.actions import Action, hardest
from safevlm_sdk.errors import HashHookFailed
from safevlm_sdk.policy import Policy
from safevlm_sdk.verdict import Verdict

SCORE_DIGITS = 6

Known = Callable[[str], Row | None]
"""Given a SHA-256: the finished row of an item with these bytes, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSettings:
    """How a judge is made, in this process or in a worker anywhere; it can be pickled.

    Attributes:
        bundles: Folders, by the same paths wherever a worker runs.
        digests: What each of them must have; None takes what is there.
        policy: Instead of each bundle's own.
        provider: As for `Runtime.load`.
        precision: Likewise.
        hash_hook: `module:function`, which every worker imports; or None.
        isolate_decoding: Decode in a child process with limited means.
        allow_uncalibrated: Load bundles whose decisions were never proven.
        engine_seconds: Wall time of one run of a graph; far above what one takes, for here a late verdict is better
            than none.
    """

    bundles: tuple[str, ...]
    digests: tuple[str, ...] | None
    policy: Policy | None = None
    provider: str = "cpu"
    precision: str | None = None
    hash_hook: str | None = None
    isolate_decoding: bool = False
    allow_uncalibrated: bool = False
    engine_seconds: float = 60.0


class Judge:
    """Gives rows, from any thread: each image is judged alone, by an engine with one thread.

    So a row follows from the item, the bundles and the policy alone, whatever is judged beside it.

    Args:
        settings: What it was made of, with the digests of the bundles.
        runtime: Loaded with `threads=1`; closed with the judge.
        hook: Asked for every image before it is decoded.
    """

    def __init__(self, settings: JudgeSettings, runtime: Runtime, hook: HashHook | None) -> None:
        self.settings, self.runtime = settings, runtime
        self._hook = hook
        self._reader = Reader(runtime.limits)
        self._failed_action = hardest([policy.error_action for policy in runtime.policies])

    @classmethod
    def load(cls, settings: JudgeSettings) -> Judge:
        """Imports the hook and loads the bundles.

        Raises:
            OptionError: The hook cannot be imported.
            BundleError, PolicyError, ProviderError, MissingExtra: As `Runtime.load` says.
        """
        hook = None if settings.hash_hook is None else load_hook(settings.hash_hook)
        runtime = Runtime.load(
            *settings.bundles,
            digest=settings.digests,
            policy=settings.policy,
            provider=settings.provider,
            precision=settings.precision,
            threads=1,
            isolate_decoding=settings.isolate_decoding,
            allow_uncalibrated=settings.allow_uncalibrated,
            engine_seconds=settings.engine_seconds,
        )
        return cls(replace(settings, digests=runtime.digests), runtime, hook)

    def row(self, item: Item, known: Known | None = None) -> Row:
        """The row of an item; whatever is wrong with the item is in the row, and nothing is raised for it.

        Args:
            item: Of any source.
            known: Spares judging bytes that have a row already: it is copied, under this item's name.
        """
        blank = Row(
            path=item.name, source=item.source, sha256=None, action=self._failed_action, category=None, level=None,
            score=None, categories={}, reason="", error=None, hook=None, duplicate_of=None,
        )  # fmt: skip
        try:
            data = self._reader.read(item)
        except Exception as problem:  # a data set is as broken as it likes
            code, reason = describe_failure(problem)
            return msgspec.structs.replace(blank, reason=reason, error=code)
        digest = sha256(data).hexdigest()
        found = None if known is None else known(digest)
        if found is not None:
            return renamed(found, item.name, item.source, None)
        blank = msgspec.structs.replace(blank, sha256=digest)
        return self._hooked(blank, data) or _judged(blank, self.runtime.check(data))

    def _hooked(self, blank: Row, data: bytes) -> Row | None:
        """The row of an image that the hook knows, or fails on; None for all others."""
        if self._hook is None or blank.sha256 is None:
            return None
        try:
            label = ask(self._hook, blank.sha256, data)
        except HashHookFailed as problem:
            return msgspec.structs.replace(blank, action=Action.BLOCK, reason=str(problem), error=problem.code)
        if label is None:
            return None
        return msgspec.structs.replace(blank, action=Action.BLOCK, reason=f"hook: {label}", hook=label)

    def close(self) -> None:
        """Frees the runtime."""
        self._reader.close()
        self.runtime.close()

    def __enter__(self) -> Judge:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def renamed(row: Row, path: str, source: str, duplicate_of: str | None) -> Row:
    """The same verdict, for another item."""
    return msgspec.structs.replace(row, path=path, source=source, duplicate_of=duplicate_of)


def _judged(blank: Row, verdict: Verdict) -> Row:
    return msgspec.structs.replace(
        blank,
        # Nothing is done to an image of a data set: what counts is what the policy means, enforced or observed.
        action=verdict.action if verdict.observed is None else verdict.observed,
        category=verdict.category,
        level=None if verdict.level is None else int(verdict.level),
        score=None if verdict.score is None else round(verdict.score, SCORE_DIGITS),
        categories={name: round(value, SCORE_DIGITS) for name, value in verdict.categories.items()},
        reason=verdict.reason,
        error=verdict.error,
    )
