"""Judging the items of an audit in processes of Ray, on this machine or on a cluster."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from safevlm_runtime.audit.item import Item
from safevlm_runtime.audit.judge import Judge, JudgeSettings
from safevlm_runtime.audit.ray_start import RaySettings, start_ray
from safevlm_runtime.audit.row import Row, row_line, row_of
from safevlm_sdk.errors import AuditError, OptionError, SafeVLMError

TASK_ITEMS = 64
RETRIES = 3
MESSAGE = 400
_AHEAD = 4  # tasks per worker that are handed out beyond the first whose rows are still awaited


class RayPool:
    """A `Pool` whose workers are processes, wherever Ray has room for them.

    A worker that dies is replaced, and what it had is judged again by the new one; an image that ends one worker
    after another ends the audit. Every machine needs this package, the bundles and the images under the same paths.

    Args:
        settings: Of the judge that each worker loads, once; its digests must be known.
        ray: Where the workers are.

    Raises:
        OptionError: A setting is out of range, or Ray runs in this process already.
        MissingExtra: Ray is not installed.
        AuditError: Ray does not start, or the cluster cannot be joined.
    """

    def __init__(self, settings: JudgeSettings, ray: RaySettings) -> None:
        if settings.digests is None:
            raise OptionError("the judge's digests are not known, and every worker must load the same bundles")
        if settings.provider != "cpu":
            raise OptionError(f"the provider is {settings.provider}; Ray's workers judge on the CPU: leave it out")
        # A worker has a working folder of its own, from which a relative path would lead elsewhere.
        bundles = tuple(os.path.abspath(path) for path in settings.bundles)
        self._ray = start_ray(ray)
        count = ray.workers or max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        worker = self._ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=RETRIES)(_Worker)
        self._workers = [worker.remote(replace(settings, bundles=bundles)) for _ in range(count)]

    def rows(self, items: Iterable[Item]) -> Iterator[Row]:
        """See `Pool.rows`.

        Raises:
            AuditError: A worker cannot load the bundles, or one after another died of the same images.
        """
        rest = iter(items)
        idle: list[Any] = []
        # A worker gets its first task when it says that it is ready: where a cluster still grows, some are to come.
        running = {worker.problem.remote(): (worker, -1, list[Item]()) for worker in self._workers}
        done: dict[int, list[Row]] = {}
        handed = given = 0
        while running:
            [answer], _ = self._ray.wait(list(running), num_returns=1)
            worker, number, task = running.pop(answer)
            if task:
                done[number] = self._rows_of(answer, task)
                idle.append(worker)
            else:
                self._require_ready(answer)
                idle += [worker, worker]  # while it works on one task, the next lies there
            while given in done:
                yield from done.pop(given)
                given += 1
            while idle and handed - given < _AHEAD * len(self._workers) and (task := list(islice(rest, TASK_ITEMS))):
                worker = idle.pop()
                running[worker.lines.remote(task)] = (worker, handed, task)
                handed += 1
            if idle and given == handed:
                return  # what still runs are workers that a cluster has no room for

    def close(self) -> None:
        """See `Pool.close`; a cluster that was joined goes on."""
        self._workers.clear()
        self._ray.shutdown()

    def _require_ready(self, answer: Any) -> None:
        problem = self._got(answer, "a worker did not start")
        if problem is not None:
            raise AuditError(
                f"a worker cannot judge: {problem}; every machine needs this package and the bundles, as here"
            )

    def _rows_of(self, answer: Any, task: list[Item]) -> list[Row]:
        which = f"{task[0].name!r} to {task[-1].name!r}"
        found = self._got(answer, f"one worker after another failed on the images {which}, of which one may end it")
        rows = [row_of(line) for line in found]
        if [row.path for row in rows] != [item.name for item in task]:
            raise AuditError(f"a worker gave rows of other images than {which}; start the audit again")
        return rows

    def _got(self, answer: Any, failure: str) -> Any:
        try:
            return self._ray.get(answer)
        except self._ray.exceptions.RayError as problem:
            lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
            # The last of Ray's many lines is what was raised; the first only names the actor.
            said = lines[-1][:MESSAGE] if lines else type(problem).__name__
            raise AuditError(f"{failure} ({said}); what was judged is kept: start the audit again") from problem


class _Worker:
    """Judges, in a process of Ray's."""

    def __init__(self, settings: JudgeSettings) -> None:
        self._judge: Judge | None = None
        self._problem: str | None = None
        try:
            self._judge = Judge.load(settings)
        except SafeVLMError as problem:  # raised here, it would be tried again, and shown with all of Ray's calls
            self._problem = f"{problem.code}: {problem}"

    def problem(self) -> str | None:
        """Why it cannot judge, if it cannot."""
        return self._problem

    def lines(self, items: list[Item]) -> list[bytes]:
        """The lines of some items."""
        if self._judge is None:
            raise RuntimeError(self._problem)
        return [row_line(self._judge.row(item)) for item in items]
