"""What goes to the upstream and back beside the bodies: nothing of one client with the requests of another."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.datastructures import Headers

from safevlm_runtime.proxy.settings import Settings
from safevlm_runtime.proxy.upstream import Upstream

SETTINGS = Settings(upstream="http://127.0.0.1:9")


@pytest.fixture
def asked():
    """The headers of every request at the upstream, as bytes."""
    return []


@pytest.fixture
def ask(asked):
    """Asks an upstream that answers with these headers, once for each client; the headers that come back."""

    def answers(request):
        asked.append(dict(request.headers.raw))
        return httpx.Response(200, headers=answers.headers, content=b"{}")

    def ask(answered, *clients):
        answers.headers = answered

        async def run():
            upstream, found = Upstream(SETTINGS, httpx.MockTransport(answers)), []
            for client in clients:
                async with upstream.post("/chat/completions", b"{}", Headers(raw=client)) as answer:
                    found.append(dict(answer.headers))
            await upstream.close()
            return found

        return asyncio.run(run())

    return ask


def test_a_cookie_of_one_client_does_not_come_with_the_requests_of_another(ask, asked):
    back = ask([("set-cookie", "session=of-the-first; Path=/")], [(b"authorization", b"Bearer first")], [])
    assert [b"authorization" in headers for headers in asked] == [True, False]
    assert not any(name.lower() == b"cookie" for headers in asked for name in headers)
    assert not any("set-cookie" in headers for headers in back)


def test_headers_go_on_and_come_back_as_the_bytes_that_they_are(ask, asked):
    name, model = "Bearer \u00e9".encode("latin-1"), "\u6a21\u578b".encode()
    (back,) = ask([(b"openai-model", model), (b"x-request-id", b"\xff")], [(b"authorization", name)])
    assert asked[0][b"authorization"] == name
    assert back["openai-model"].encode("latin-1") == model
    assert back["x-request-id"].encode("latin-1") == b"\xff"
