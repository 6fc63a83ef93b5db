"""Work is taken on while the expected wait is short; whoever would wait for longer hears so before the body."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import socket
import threading
import time
import weakref

import httpx
import pytest

from safevlm_runtime.proxy.admission import Admission, expected_wait, judged_at_once, smoothed
from safevlm_runtime.proxy.settings import ProxyLimits
from safevlm_sdk.errors import EngineUnavailable, Overloaded


class Counting:
    def __init__(self):
        self.running = 0

    def waiting(self, change):
        pass

    def judging(self, change):
        self.running += change


class Clock:
    """Stands still unless a job lets time pass."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def take(self, seconds):
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def meter():
    return Counting()


@pytest.fixture
def admission(clock, meter):
    found = Admission(running=2, waiting=8, burst_seconds=0.25, meter=meter, clock=clock)
    yield found
    found.close()


@pytest.mark.parametrize(("waiting", "workers", "job_seconds", "running", "wait"), [
    (0, 2, 9.0, [0.0], 0.0),  # a worker is free
    (0, 1, 0.5, [0.1], 0.4),  # what is left of the one that runs
    (0, 1, 0.5, [0.7], 0.0),  # it must end at any moment
    (1, 1, 0.5, [0.1], 0.9),
    (0, 2, 0.1, [0.02, 0.05], 0.05),  # until the first of them ends
    (3, 2, 0.1, [0.02, 0.05], 0.18),  # 0.05, 0.08, 0.15: then 0.18
    (64, 2, None, [3.0, 3.0], 0.0),
])  # fmt: skip
def test_the_wait_is_until_a_worker_is_free_behind_those_before(waiting, workers, job_seconds, running, wait):
    assert expected_wait(waiting, workers, job_seconds, running) == pytest.approx(wait)


@pytest.mark.parametrize(("cores", "workers", "at_once"), [(1, 1, 1), (2, 1, 1), (4, 1, 2), (64, 1, 2), (8, 3, 1)])
def test_two_are_judged_at_once_where_there_are_cores_for_it(cores, workers, at_once):
    assert judged_at_once(cores, workers) == at_once


def test_the_first_job_is_the_estimate_and_later_ones_move_it_by_an_eighth():
    assert smoothed(None, 0.8) == 0.8
    assert smoothed(0.8, 1.6) == pytest.approx(0.9)
    found = 20.0
    for _ in range(60):
        found = smoothed(found, 0.1)
    assert found == pytest.approx(0.1, abs=0.01)


async def fill(admission, count, hold):
    """Jobs that last until `hold` is set; they run or wait when this returns."""
    jobs = [asyncio.ensure_future(admission.run(lambda: hold.wait(20))) for _ in range(count)]
    await asyncio.sleep(0)
    return jobs


@pytest.mark.parametrize(("job_seconds", "taken_on", "retry_after"), [
    (0.04, 10, 1),  # all places: 0.16 s are short enough for a burst, and then there is no eleventh
    (0.08, 6, 1),  # 7 x 0.08 / 2 are no burst any more, and 0.24 s are longer than half a job
    (1.0, 2, 1),  # the third would wait for a whole job
    (5.0, 2, 5),
])  # fmt: skip
def test_so_many_are_taken_on_as_the_time_of_a_job_allows(admission, clock, job_seconds, taken_on, retry_after):
    async def run():
        await admission.run(lambda: clock.take(job_seconds))
        hold = threading.Event()
        jobs = []
        try:
            for _ in range(taken_on):
                admission.check()
                jobs += await fill(admission, 1, hold)
            with pytest.raises(Overloaded) as head:
                admission.check()
            with pytest.raises(Overloaded):
                await admission.run(lambda: None)
        finally:
            hold.set()
            assert await asyncio.gather(*jobs) == [True] * taken_on
        assert head.value.retry_after == retry_after
        assert f"again in {retry_after} s" in str(head.value)
        admission.check()

    asyncio.run(run())


def test_under_lasting_overload_one_may_wait_for_half_a_job(admission, clock, meter):
    async def run():
        await admission.run(lambda: clock.take(1.0))
        hold = threading.Event()
        jobs = await fill(admission, 2, hold)
        while meter.running < 2:
            await asyncio.sleep(0.001)
        try:
            clock.take(0.45)
            with pytest.raises(Overloaded):
                admission.check()
            clock.take(0.1)
            admission.check()
            jobs += await fill(admission, 1, hold)
            admission.check()  # the other worker, too
            jobs += await fill(admission, 1, hold)
            with pytest.raises(Overloaded):
                admission.check()
        finally:
            hold.set()
            await asyncio.gather(*jobs)

    asyncio.run(run())


def test_a_burst_may_wait_for_longer_than_lasting_overload(admission, clock):
    async def run():
        await admission.run(lambda: clock.take(0.04))
        hold = threading.Event()
        jobs = await fill(admission, 4, hold)
        try:
            for _ in range(12):
                admission.check()  # 0.08 s are two jobs, and bearable in a burst
            for _ in range(30):
                with pytest.raises(Overloaded):
                    admission.check()
            clock.take(0.2)
            with pytest.raises(Overloaded):
                admission.check()
            clock.take(0.1)  # so much has not been asked for of late that it would be more than a burst
            admission.check()
        finally:
            hold.set()
            await asyncio.gather(*jobs)

    asyncio.run(run())


def test_before_a_job_has_ended_the_places_alone_count(admission):
    async def run():
        hold = threading.Event()
        jobs = await fill(admission, 10, hold)
        with pytest.raises(Overloaded):
            admission.check()
        hold.set()
        await asyncio.gather(*jobs)

    asyncio.run(run())


def test_a_job_that_fails_takes_its_time_too(admission, clock):
    def fail():
        clock.take(4.0)
        raise ValueError("broken")

    async def run():
        with pytest.raises(ValueError, match="broken"):
            await admission.run(fail)
        hold = threading.Event()
        jobs = await fill(admission, 2, hold)
        with pytest.raises(Overloaded):
            admission.check()
        hold.set()
        await asyncio.gather(*jobs)

    asyncio.run(run())


def test_a_job_runs_in_the_context_of_its_caller(admission):
    name = contextvars.ContextVar("name", default="none")

    async def run():
        name.set("the caller")
        return await admission.run(name.get)

    assert asyncio.run(run()) == "the caller"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/check", "/v1/moderations"])
def test_an_overloaded_gate_refuses_before_the_body_is_there(make_proxy, pictures, path):
    proxy = make_proxy(limits=ProxyLimits(judging=1, waiting=1))
    proxy.screener.hold.clear()
    threads = [
        threading.Thread(target=httpx.post, args=(f"{proxy.client.base_url}/v1/check",),
                         kwargs={"json": {"image": pictures["allow"]}, "timeout": 60})
        for _ in range(2)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for _ in range(4000):
        if proxy.gateway.admission.open == 2:
            break
        time.sleep(0.005)
    else:
        proxy.screener.hold.set()
        raise AssertionError("the places were not taken")
    head = f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 9000\r\n\r\n"
    try:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as connection:
            connection.sendall(head.encode())
            answer = connection.recv(65536)
    finally:
        proxy.screener.hold.set()
        for thread in threads:
            thread.join(20)
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert b"\r\nretry-after: 1\r\n" in answer


def test_a_thread_that_cannot_be_started_takes_no_place_for_ever(clock, meter, monkeypatch):
    async def run():
        admission, done = Admission(running=1, waiting=1, burst_seconds=0.25, meter=meter, clock=clock), []

        def refuse(thread):
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            for _ in range(3):
                with pytest.raises(EngineUnavailable):
                    await admission.run(lambda: done.append("a job of nobody"))
        assert admission.open == 0
        assert await admission.run(lambda: "judged") == "judged"
        assert done == []
        admission.close()

    asyncio.run(run())


def test_what_a_job_holds_is_let_go_once_its_caller_has_gone(admission):
    class Body(bytearray):
        """A body that can be watched."""

    async def run():
        hold, body = threading.Event(), Body(b"large")
        left = weakref.ref(body)
        first = await fill(admission, 2, hold)
        waits = asyncio.ensure_future(admission.run(functools.partial(len, body)))
        del body
        await asyncio.sleep(0)
        assert left() is not None
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)
        del waits
        for _ in range(5):  # what is left to do for a cancelled task
            await asyncio.sleep(0)
        gc.collect()
        kept = left() is not None, admission.open
        hold.set()
        await asyncio.gather(*first)
        assert kept == (False, 3)

    asyncio.run(run())
