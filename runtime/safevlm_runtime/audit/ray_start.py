"""Starting Ray, or joining it, without what an audit does not need of it."""

from __future__ import annotations

import os
import secrets
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safevlm_sdk.errors import AuditError, MissingExtra, OptionError
from safevlm_sdk.no_telemetry import import_ray


@dataclass(frozen=True, slots=True, kw_only=True)
class RaySettings:
    """Where Ray runs, and how much of it is used.

    Attributes:
        address: Of a cluster to join, as `ray.init` takes it; None starts Ray on this machine.
        workers: Processes that judge, each on one core; None takes one per core that the cluster has.
        object_store_bytes: Shared memory of a Ray that is started here; None leaves it to Ray, which takes a third of
            the machine's. An audit needs little: images are read by the workers.
    """

    address: str | None = None
    workers: int | None = None
    object_store_bytes: int | None = 256 * 2**20


def start_ray(settings: RaySettings) -> Any:
    """The module `ray`, connected until `ray.shutdown()`.

    A Ray that is started here has no dashboard, reports nothing to its makers, writes nothing into the home directory
    and ends with this process.

    Raises:
        OptionError: A setting is out of range, or Ray runs in this process already.
        MissingExtra: Ray is not installed.
        AuditError: Ray does not start, or the cluster cannot be joined.
    """
    if settings.workers is not None and settings.workers < 1:
        raise OptionError(f"workers is {settings.workers}; give at least 1")
    if settings.address is None:
        # The token with which Ray's processes know one another; otherwise it is written into the home directory.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        ray = import_ray()
    except ModuleNotFoundError as problem:
        raise MissingExtra("ray", "ray") from problem
    if ray.is_initialized():
        raise OptionError("Ray runs in this process already; call ray.shutdown() before")
    with tempfile.TemporaryDirectory(prefix="safevlm-") as folder, _signal_kept():
        # Without a working folder that is named, workers import from the current one before all others: from the very
        # data set that is audited, where the command was started in it.
        Path(folder, "empty").touch()
        try:
            ray.init(
                log_to_driver=False, logging_level="ERROR", runtime_env={"working_dir": folder}, **_place(settings)
            )
        except (RuntimeError, ConnectionError, ValueError, OSError, ray.exceptions.RayError) as problem:
            place = "on this machine" if settings.address is None else f"at {settings.address}"
            raise AuditError(f"Ray {place} cannot be used ({problem}); check its address and its logs") from problem
    return ray


def _place(settings: RaySettings) -> dict[str, Any]:
    if settings.address is not None:
        return {"address": settings.address}
    return {
        "address": "local",
        "num_cpus": settings.workers,
        "object_store_memory": settings.object_store_bytes,
        "include_dashboard": False,
    }


@contextmanager
def _signal_kept() -> Iterator[None]:
    """Leaves SIGTERM to whoever has it: Ray takes it for itself."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
