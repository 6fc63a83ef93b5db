"""Slow clients are cut off, too much work is turned away, and whoever goes away takes the upstream's work along."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time

import httpx
import pytest

from safevlm_runtime.proxy.admission import Admission
from safevlm_runtime.proxy.connection import PatientConnection
from safevlm_runtime.proxy.settings import ProxyLimits
from safevlm_sdk.errors import EngineUnavailable, Overloaded


class Impatient(PatientConnection):
    head_seconds = 1.0
    write_seconds = 0.3


@pytest.fixture(scope="module")
def one_impatient(start_proxy):
    """A proxy whose times are short."""
    proxy = start_proxy(http=Impatient, limits=ProxyLimits(body_seconds=1.0))
    yield proxy
    proxy.stop()


@pytest.fixture
def impatient(one_impatient, spy):
    spy.clear()
    return one_impatient


@contextlib.contextmanager
def trickling(connection):
    """Sends a byte every now and then."""
    done = threading.Event()

    def trickle():
        with contextlib.suppress(OSError):
            while not done.wait(0.02):
                connection.send(b"x")

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def connect(proxy):
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=20)


def until_closed(connection):
    """What comes until the other side closes; fails if it does not."""
    found = b""
    try:
        while block := connection.recv(65536):
            found += block
    except ConnectionError:
        pass
    return found


def until(condition):
    """Waits for what another thread does; fails if it does not."""
    for _ in range(4000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it did not come")


def head(length, *more):
    lines = ["POST /v1/chat/completions HTTP/1.1", "host: a", "content-type: application/json", *more]
    if length is not None:
        lines.append(f"content-length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


def body(**fields):
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "a"}], **fields}).encode()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"G",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\nx:",
    ],
    ids=["nothing", "a byte", "half a head", "half a header"],
)
def test_a_head_that_does_not_come_ends_the_connection(impatient, sent):
    with connect(impatient) as connection:
        connection.sendall(sent)
        assert until_closed(connection) == b""


def test_a_head_that_comes_byte_by_byte_gains_nothing(impatient):
    with connect(impatient) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: ")
        with trickling(connection):
            assert until_closed(connection) == b""


def test_a_second_head_on_a_kept_connection_has_the_same_time(impatient):
    with connect(impatient) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        answer = b""
        while b'"ok"' not in answer:
            answer += connection.recv(65536)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nho")
        assert until_closed(connection).strip(b"}") == b""


def test_a_body_that_does_not_come_is_408(impatient, spy):
    with connect(impatient) as connection:
        connection.sendall(head(1000) + b'{"model')
        answer = until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout"' in answer
    assert spy.data == b""


def test_many_slow_clients_do_not_keep_others_waiting(proxy):
    slow = [connect(proxy) for _ in range(200)]
    try:
        for number, connection in enumerate(slow):
            connection.sendall(head(1000) + b"{" if number % 2 else b"POST /v1/chat")
        assert all(proxy.chat("a").is_success for _ in range(5))
    finally:
        for connection in slow:
            connection.close()


def test_a_client_that_takes_nothing_of_its_answer_is_cut_off(impatient, spy):
    spy.mode, spy.much = "endless", True
    with connect(impatient) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sent = body(stream=True)
        connection.sendall(head(len(sent)) + sent)
        assert spy.broken.wait(30)


def test_the_rest_of_a_refused_body_is_not_read_for_ever(impatient):
    with connect(impatient) as connection:
        connection.sendall(head(10**9) + b"{")
        with trickling(connection):
            answer = until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_flood_of_tiny_chunks_is_cut_off(proxy, spy):
    with connect(proxy) as connection:
        connection.sendall(head(None, "transfer-encoding: chunked"))
        try:
            for _ in range(500):
                connection.sendall(b"6\r\n      \r\n" * 1000)
        except ConnectionError:
            pass
        answer = until_closed(connection)
    assert b" 200 " not in answer
    assert spy.data == b""
    assert proxy.chat("a").is_success


@pytest.mark.parametrize(
    "sent",
    [
        head(5, "transfer-encoding: chunked") + b"0\r\n\r\n",
        head(5, "content-length: 6") + b"{}   ",
        head("+5") + b"{}   ",
        head("5, 6") + b"{}   ",
        head(None, "transfer-encoding: gzip, chunked") + b"0\r\n\r\n",
        head(None, "transfer-encoding: xchunked") + b"0\r\n\r\n",
        head(5, "x: a\r\n b") + b"{}   ",
        head(5, "x : a") + b"{}   ",
        head(5).replace(b"HTTP/1.1", b"HTTP/1.1 ") + b"{}   ",
        head(5).replace(b"content-length", b"content-length\x00") + b"{}   ",
        head(None, "transfer-encoding: chunked") + b"5;\n{}   \r\n0\r\n\r\n",
        head(None, "transfer-encoding: chunked") + b"0x5\r\n{}   \r\n0\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}",
        b"x" * 70_000,
    ],
    ids=["CL and TE", "two CL", "CL with sign", "CL list", "TE list", "TE unknown", "folded", "blank before colon",
         "blank in the line", "NUL", "bare LF", "hex prefix", "no host", "no end"],
)  # fmt: skip
def test_requests_that_smuggle_are_refused(proxy, spy, sent):
    with connect(proxy) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = until_closed(connection)
    assert b" 200 " not in answer
    assert spy.data == b""


def test_further_requests_are_told_to_come_again_and_those_that_wait_are_served(make_proxy, pictures):
    proxy = make_proxy(limits=ProxyLimits(judging=1, waiting=3))
    proxy.screener.hold.clear()
    url = pictures["allow"]
    answers: list[httpx.Response] = []
    threads = [
        threading.Thread(target=lambda: answers.append(proxy.client.post("/v1/check", json={"image": url})))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    until(lambda: proxy.gateway.admission.open == 4)
    turned_away = [proxy.client.post("/v1/check", json={"image": url}) for _ in range(3)]
    assert proxy.client.get("/healthz").status_code == 200
    proxy.screener.hold.set()
    for thread in threads:
        thread.join(20)
    assert [answer.status_code for answer in answers] == [200] * 4
    for answer in turned_away:
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "overloaded")
        assert answer.headers["retry-after"] == "1"
    assert proxy.client.post("/v1/check", json={"image": url}).status_code == 200


def test_the_bytes_of_all_requests_together_are_bounded(make_proxy, spy):
    proxy = make_proxy(limits=ProxyLimits(buffered_bytes=4096))
    with connect(proxy) as connection:
        connection.sendall(head(4000) + b" " * 3999)
        until(lambda: proxy.gateway.buffered.held >= 3999)
        answer = proxy.chat("a" * 200)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "overloaded")
    until(lambda: not proxy.gateway.buffered.held)
    assert proxy.chat("a" * 200).is_success
    until(lambda: not proxy.gateway.buffered.held)  # also of what was forwarded


@pytest.mark.parametrize("mode", ["endless", "silent"])
def test_a_client_that_goes_away_ends_the_upstreams_work(proxy, spy, mode):
    spy.mode = mode
    sent = body(stream=True)
    with connect(proxy) as connection:
        connection.sendall(head(len(sent)) + sent)
        if mode == "endless":
            assert connection.recv(65536)
        else:
            until(lambda: spy.requests)
    assert spy.broken.wait(20)


def test_clients_that_go_away_at_any_byte_leave_nothing_behind(proxy, spy, pictures):
    content = [{"type": "image_url", "image_url": {"url": pictures["allow"]}}]
    sent = body(messages=[{"role": "user", "content": content}])
    whole = head(len(sent)) + sent
    for cut in range(1, len(whole), max(1, len(whole) // 100)):
        with connect(proxy) as connection:
            connection.sendall(whole[:cut])
    until(lambda: not (proxy.gateway.buffered.held or proxy.gateway.admission.open))
    assert spy.data == b""
    assert proxy.chat(content).is_success


class NoMeter:
    def waiting(self, change):
        pass

    def judging(self, change):
        pass


def test_whoever_goes_away_keeps_the_place_until_the_work_is_done():
    async def run():
        admission = Admission(running=1, waiting=1, burst_seconds=1.0, meter=NoMeter())
        hold, done = threading.Event(), []
        first = asyncio.ensure_future(admission.run(lambda: hold.wait(20)))
        second = asyncio.ensure_future(admission.run(lambda: done.append("second")))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        with pytest.raises(Overloaded):
            await admission.run(lambda: None)
        hold.set()
        assert await first is True
        while admission.open:
            await asyncio.sleep(0.001)
        assert await admission.run(lambda: "third") == "third"
        assert done == []
        admission.close()
        with pytest.raises(EngineUnavailable):
            await admission.run(lambda: None)

    asyncio.run(run())
