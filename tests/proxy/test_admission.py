"""Work is taken on while the expected wait is short; whoever would wait for longer hears so before the body."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import threading
import time

import httpx
import pytest

from safevlm_runtime.proxy.admission import Admission, expected_wait, judged_at_once, smoothed
from safevlm_runtime.proxy.settings import ProxyLimits
from safevlm_sdk.errors import Overloaded


class NoMeter:
    def waiting(self, change):
        pass

    def judging(self, change):
        pass


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
def admission(clock):
    found = Admission(running=2, waiting=8, burst_seconds=0.25, meter=NoMeter(), clock=clock)
    yield found
    found.close()


@pytest.mark.parametrize(
    ("jobs", "workers", "job_seconds", "wait"),
    [(1, 2, 9.0, 0.0), (2, 2, 0.1, 0.05), (5, 2, 0.1, 0.2), (1, 1, 0.5, 0.5), (66, 2, None, 0.0)],
)
def test_the_wait_is_the_work_before_one_over_the_workers(jobs, workers, job_seconds, wait):
    assert expected_wait(jobs, workers, job_seconds) == pytest.approx(wait)


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
    (0.04, 10, 1),  # all places: 8 x 0.04 / 2 is short enough for a burst, and then there is no eleventh
    (0.08, 6, 1),  # 7 x 0.08 / 2 are no burst any more, and 5 x 0.08 / 2 is longer than a job
    (1.0, 4, 2),  # 2 x 1 / 2 is as long as a job; 3 x 1 / 2 is longer
    (5.0, 4, 8),
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


def test_as_long_as_too_many_come_nobody_waits_for_longer_than_a_job_takes(admission, clock):
    async def run():
        await admission.run(lambda: clock.take(0.04))
        hold = threading.Event()
        jobs = await fill(admission, 4, hold)
        try:
            for _ in range(12):
                admission.check()  # 3 x 0.04 / 2 is longer than a job, and bearable in a burst
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
        jobs = await fill(admission, 4, hold)
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
