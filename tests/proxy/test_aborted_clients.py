"""Clients that go away at any moment, in any way: nothing of them stays, neither here nor at the upstream."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import stat
import struct
import time

import pytest

ABORTS = 200


@pytest.fixture(scope="module")
def whole(pictures):
    """A request with an image that is let through, for a stream that does not end."""
    content = [{"type": "image_url", "image_url": {"url": pictures["allow"]}}]
    body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": content}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"content-type: application/json\r\n\r\n" + body


def abort(proxy, whole, draw):
    """Sends some bytes or all; of the answer, takes some bytes; ends the connection in one of three ways."""
    sent = draw.choice([draw.randrange(1, len(whole)), len(whole)])
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as connection:
        connection.sendall(whole[:sent])
        if sent == len(whole) and draw.random() < 0.7:
            connection.recv(draw.randrange(1, 4096))
        way = draw.choice(["close", "reset", "half"])
        with contextlib.suppress(OSError):
            if way == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if way == "half":
                connection.shutdown(socket.SHUT_WR)
    return sent == len(whole)


def until(condition):
    """Waits for what other threads do; fails if they do not."""
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come")


def tasks_of(proxy):
    """What runs in the server's event loop."""

    async def names():
        return sorted(str(task.get_coro()) for task in asyncio.all_tasks() if task is not asyncio.current_task())

    return asyncio.run_coroutine_threadsafe(names(), proxy.loop).result(60)


def sockets():
    """Descriptors of this process that are sockets."""
    found = 0
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):
            found += stat.S_ISSOCK(os.fstat(int(name)).st_mode)
    return found


def test_two_hundred_aborts_leave_no_task_and_no_socket(make_proxy, spy, whole):
    proxy = make_proxy()
    assert proxy.chat("a").is_success
    state, pool = proxy._server.server_state, proxy.gateway.upstream._client._transport._pool
    proxy.loop = proxy._server.servers[0].get_loop()
    spy.mode = "endless"
    proxy.client.close()
    until(lambda: not state.connections)
    tasks, before, draw = tasks_of(proxy), sockets(), random.Random(7)
    asked = sum(abort(proxy, whole, draw) for _ in range(ABORTS))
    until(lambda: not (state.connections or state.tasks or proxy.gateway.admission.open))
    until(lambda: all(connection.is_idle() for connection in pool.connections))
    until(lambda: sockets() <= before)
    assert tasks_of(proxy) == tasks
    assert proxy.gateway.buffered.held == 0
    assert 0 < len(spy.requests) - 1 <= asked < ABORTS
    assert spy.broken.wait(60)
