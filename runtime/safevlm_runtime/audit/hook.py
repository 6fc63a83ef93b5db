"""The operator's own look at an image's hash, before anything else touches the image."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from safevlm_sdk.errors import HashHookFailed, OptionError

HashHook = Callable[[str, bytes], str | None]
"""Given the SHA-256 of the encoded bytes in hexadecimal and the bytes; says None, or a short label."""

MAX_LABEL = 80


def load_hook(name: str) -> HashHook:
    """Imports `module:function`; this runs the module's code.

    Raises:
        OptionError: There is no such module or function, or the module fails.
    """
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise OptionError(f"the hash hook is {name!r}; give it as module:function")
    try:
        found = getattr(import_module(module), function)
    except ModuleNotFoundError as problem:
        raise OptionError(
            f"the hash hook {name!r} cannot be imported ({problem}); install it, or put its folder on PYTHONPATH"
        ) from problem
    except AttributeError as problem:
        raise OptionError(f"the hash hook {name!r}: {problem}") from problem
    except (Exception, SystemExit) as problem:  # the operator's module fails in any way it likes
        raise OptionError(
            f"the hash hook {name!r} cannot be imported: {type(problem).__name__}: {problem}"
        ) from problem
    if not callable(found):
        raise OptionError(f"the hash hook {name!r} is a {type(found).__name__}; name a function")
    hook: HashHook = found
    return hook


def ask(hook: HashHook, sha256: str, data: bytes) -> str | None:
    """What the hook calls an image, or None.

    Raises:
        HashHookFailed: It raised, or what it gave is no label. The message holds nothing of what it raised, which may
            quote what nobody should read.
    """
    try:
        label = hook(sha256, data)
    except (Exception, SystemExit) as problem:  # the operator's function fails in any way it likes
        raise HashHookFailed(f"the hash hook raised {type(problem).__name__}; the image was not judged") from problem
    if label is None:
        return None
    if isinstance(label, str):
        label = str.__str__(label)  # of a subclass, as numpy's or an enumeration's, the text alone
    if not isinstance(label, str) or not 0 < len(label) <= MAX_LABEL or not label.isprintable():
        raise HashHookFailed(
            f"the hash hook gave neither None nor a label of 1 to {MAX_LABEL} printable characters; "
            "the image was not judged"
        )
    return label
