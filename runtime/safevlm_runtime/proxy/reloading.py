"""SIGHUP: another policy is put in force without a restart, in every worker process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from safevlm_runtime import Runtime
from safevlm_runtime.proxy.announcing import warnings_of
from safevlm_runtime.proxy.exchange import LOG
from safevlm_runtime.proxy.gateway import Gateway, coverage_of
from safevlm_sdk.errors import SafeVLMError


def read_policy_again(policy: str | None, runtime: Runtime, gateway: Gateway) -> None:
    """Puts the policy file as it is now in force; one that is refused is logged, and the old one stays.

    Args:
        policy: The file; None when the bundles' own policies are in force.
        runtime: Judges by it.
        gateway: Says so.
    """
    if policy is None:
        LOG.warning("SIGHUP: there is no --policy to read again")
        return
    try:
        runtime.reload_policy(policy)
    except SafeVLMError as problem:
        LOG.error("policy %s was refused (%s: %s); the old one stays in force", policy, problem.code, problem)
        return
    gateway.cover(coverage_of(runtime))
    for digest, name in gateway.coverage.policies.items():
        LOG.warning("policy %s is in force: %s %s", policy, name, digest)
    for warning in warnings_of(runtime, gateway.settings.source):
        LOG.warning("warning: %s", warning)


@contextmanager
def on_hangup(action: Callable[[], None]) -> Iterator[None]:
    """Within the block every SIGHUP calls it in the running event loop.

    Where there is no such signal, or in another thread than the main one, nothing does.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, action)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


class Workers(Multiprocess):
    """Worker processes that are told of SIGHUP, where uvicorn's own would be started anew."""

    @property
    def failed_to_start(self) -> bool:
        """A worker could not start, which ended all of them: another try would fail in the same way."""
        return any(process.exitcode == STARTUP_FAILURE for process in self.processes)

    def handle_hup(self) -> None:
        """Hands it on; one that is still starting ends of it, and is started again with the policy as it is now."""
        if sys.platform == "win32":
            return
        for process in self.processes:
            if process.pid is not None and process.exitcode is None:
                os.kill(process.pid, signal.SIGHUP)
