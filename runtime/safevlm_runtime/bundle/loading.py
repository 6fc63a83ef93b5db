"""From folders to gates that proved themselves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safevlm_runtime.backends.ort_backend import SessionOptions
from safevlm_runtime.bundle.reader import read_bundle, starter_path
from safevlm_runtime.bundle.signature import KeySigner
from safevlm_runtime.judging.gate import Gate, open_gate
from safevlm_sdk.errors import BundleDigest, BundleError, BundleMissing
from safevlm_sdk.policy import Policy, checked, load_policy

PolicySource = Policy | str | os.PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How bundles are to be loaded; the attributes are the options of `Runtime.load`."""

    policy: PolicySource | None
    digest: str | Sequence[str] | None
    session: SessionOptions
    allow_uncalibrated: bool
    precision: str | None
    public_key: str | os.PathLike[str] | None


def load_gates(paths: Sequence[str | os.PathLike[str]], wish: Wish) -> list[Gate]:
    """Reads bundles, builds their sessions and has each prove itself; closes all of them if one is refused.

    Raises:
        BundleError, PolicyError, ProviderError, MissingExtra: As `Runtime.load` says.
    """
    pins = _pins(wish.digest, len(paths))
    policy = None if wish.policy is None else policy_from(wish.policy)
    signer = None if wish.public_key is None else KeySigner(public_key=Path(wish.public_key))
    gates: list[Gate] = []
    try:
        for path, pin in zip(paths, pins, strict=True):
            gates.append(
                open_gate(
                    read_bundle(path, digest=pin, signer=signer),
                    policy=policy,
                    options=wish.session,
                    allow_uncalibrated=wish.allow_uncalibrated,
                    precision=wish.precision,
                )
            )
    except BaseException:
        close_gates(gates)
        raise
    return gates


def close_gates(gates: Sequence[Gate]) -> None:
    """Frees every gate's sessions."""
    for gate in gates:
        gate.close()


def policy_from(policy: PolicySource) -> Policy:
    """A policy of one's own, or the one in a TOML file; whoever holds the original cannot change it.

    Raises:
        PolicyError: It is not valid, or the file cannot be read.
    """
    return checked(policy) if isinstance(policy, Policy) else load_policy(Path(policy))


def starter_folder() -> Path:
    """The folder of the starter bundle.

    Raises:
        BundleMissing: This installation has none.
    """
    path = starter_path()
    if not path.is_dir():
        raise BundleMissing(
            "this installation of safevlm-sdk has no starter bundle; install the wheel, or load a bundle of yours"
        )
    return path


def _pins(digest: str | Sequence[str] | None, count: int) -> Sequence[str | None]:
    if count == 0:
        raise BundleError("no bundle was given; pass the path of one, or use Runtime.starter()")
    if digest is None:
        return [None] * count
    pins = [digest] if isinstance(digest, str) else list(digest)
    if len(pins) != count:
        raise BundleDigest(f"{len(pins)} digests for {count} bundles; give one per bundle")
    return pins
