"""What huggingface_hub raises, as the SDK's own errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import errors as foreign

from safevlm_sdk.errors import HubDenied, HubError, HubNotFound, HubUnreachable, SafeVLMError


@contextmanager
def telling(what: str) -> Iterator[None]:
    """Turns whatever the block raises into a `HubError` that begins with `what` and repeats no token.

    Raises:
        HubError: Of the class that fits.
    """
    try:
        yield
    except SafeVLMError:
        raise
    except Exception as problem:  # of the network, its client, the hub or the file system
        raise _told(what, problem) from problem


def _told(what: str, problem: BaseException) -> HubError:
    """The first of the problem and its causes that says something."""
    one: BaseException | None = problem
    while one is not None:
        told = _known(what, one)
        if told is not None:
            return told
        one = one.__cause__
    return HubError(f"{what}: {' '.join(str(problem).split())}")


def _known(what: str, problem: BaseException) -> HubError | None:
    if isinstance(problem, foreign.LocalEntryNotFoundError | foreign.OfflineModeIsEnabled):
        return HubUnreachable(f"{what}: the hub is not asked or does not answer, and the cache does not hold it")
    if isinstance(problem, foreign.GatedRepoError):
        return HubDenied(f"{what}: the repository is gated; ask for access on its page, then run `hf auth login`")
    if isinstance(problem, foreign.RevisionNotFoundError):
        return HubNotFound(f"{what}: the repository has no such branch, tag or commit")
    if isinstance(problem, foreign.RepositoryNotFoundError):
        return HubNotFound(
            f"{what}: there is no such repository, or the token may not see it; check the id, and `hf auth whoami`"
        )
    if isinstance(problem, foreign.EntryNotFoundError):
        return HubNotFound(f"{what}: the repository does not hold it")
    if isinstance(problem, foreign.HfHubHTTPError):
        return _refused(what, problem)
    if type(problem).__module__.split(".")[0].startswith("httpx"):  # the client's name differs by version
        return HubUnreachable(
            f"{what}: the hub does not answer ({type(problem).__name__}); check the network and HF_ENDPOINT"
        )
    return None


def _refused(what: str, problem: foreign.HfHubHTTPError) -> HubError:
    status = problem.response.status_code
    if status in (401, 403):
        return HubDenied(
            f"{what}: the hub answers {status}: the token is wrong or may not do this; check `hf auth whoami`"
        )
    said = " ".join((problem.server_message or "").split())
    reason = f" ({said})" if said else ""
    advice = "mend what it names" if status == 400 else "try again later"
    return HubError(f"{what}: the hub answers {status}{reason}; {advice}")
