"""Images by their address: none is fetched unless a host is named, and then nothing but a checked public address."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from safevlm_runtime.proxy.addresses import is_public
from safevlm_runtime.proxy.remote_images import RemoteImages, check_host, resolve_all
from safevlm_sdk.errors import (
    OptionError,
    RemoteImageAddress,
    RemoteImageForbidden,
    RemoteImageHost,
)

HOST = "images.example.org"
INSIDE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.254",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.170",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::7f00:1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0.0.0.0",
    "::ffff:100.64.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::808:808",
    "64:ff9b:1::7f00:1",
    "100::1",
    "2001::1",
    "2001:0:7f00:1::",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::",
    "2002:808:808::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fe80::1%1",
    "febf::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "2606:4700::1111%eth0",
    "127.1",
    "0x7f000001",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "localhost",
    "127.0.0.1:80",
    "[::1]",
    "1.2.3",
    "1.2.3.4.5",
    "256.1.1.1",
    "8.8.8.8/32",
]
OUTSIDE = (
    "8.8.8.8 1.1.1.1 93.184.216.34 172.32.0.1 100.128.0.1 192.167.255.255 "
    "2606:4700::1111 2001:4860:4860::8888 ::ffff:8.8.8.8"
)

URLS = {
    "forbidden": [
        *(f"http://{host}/a.png" for host in (HOST, "127.0.0.1", "localhost")),
        *(
            f"https://{host}/a.png"
            for host in (
                "127.0.0.1", "127.1", "0x7f000001", "2130706433", "017700000001", "0177.0.0.1", "0x7f.1", "0",
                "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]",
                "[2002:7f00:1::]",
                "[2001:0:7f00:1::]", "[fe80::1%25eth0]", "169.254.169.254", "localhost", "localhost.", f"{HOST}.",
                f"{HOST}:443", f"{HOST}:8000", f"user@{HOST}", f"user:key@{HOST}", f"127.0.0.1\\@{HOST}", f"{HOST}\\",
                f"{HOST}@127.0.0.1", f"{HOST}#@127.0.0.1", f"{HOST}%00.evil.org", f"{HOST} ", f" {HOST}", f"{HOST}\t",
                f"{HOST}\n", HOST.upper(), "images.example.org\u3002", "im\u00e1ges.example.org",
                "\u2460\u2461.example", "", "-", ".example.org", "a..example.org", "images_example.org",
            )
        ),
        f"HTTPS://{HOST}/a", f"Https://{HOST}/a", f"https:/{HOST}/a", f"https:{HOST}/a", f"https:///{HOST}/a",
        f"https:\\\\{HOST}\\a", f"//{HOST}/a", f"/{HOST}/a", f"https://{HOST}", f"https://{HOST}?a", f"https://{HOST}/a#b",
        f"https://{HOST}/a b", f"https://{HOST}/a\r\nx: y", f"https://{HOST}/\u00e9", f"https://{HOST}/\\..\\a",
        f" https://{HOST}/a", f"https://{HOST}/a ", f"ftp://{HOST}/a", "file:///etc/passwd",
        "file://localhost/etc/passwd", "gopher://127.0.0.1:80/_", "javascript:1", "blob:https://a/1",
        f"https://{HOST}/" + "a" * 5000, "", "a", "\x00",
    ],
    "host": [
        "https://example.org/a", f"https://x.{HOST}/a", f"https://{HOST}.evil.org/a", "https://metadata.google.internal/",
    ],
}  # fmt: skip


class Canary:
    """Counts whoever connects to loopback."""

    def __init__(self):
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._count, daemon=True)
        self._thread.start()

    def _count(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            connection.close()

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)


@pytest.fixture(scope="module")
def canary():
    canary = Canary()
    yield canary
    canary.close()


def answers(*rounds):
    """A resolver that gives one list of addresses after the other, and what it was asked."""
    asked = []

    async def resolve(host, port):
        asked.append(host)
        return list(rounds[min(len(asked), len(rounds)) - 1])

    return resolve, asked


def test_every_way_inside_is_refused():
    assert len(INSIDE) >= 60
    assert [address for address in INSIDE if is_public(address)] == []
    assert [address for address in OUTSIDE.split() if not is_public(address)] == []


@pytest.mark.parametrize("kind", URLS)
def test_no_shape_of_url_gets_through(start_proxy, spy, canary, kind):
    assert sum(map(len, URLS.values())) >= 60
    spy.clear()
    resolve, asked = answers(["127.0.0.1"])
    remote = RemoteImages(hosts=frozenset({HOST}), port=canary.port, resolve=resolve, allows=lambda address: True)
    proxy = start_proxy(remote=remote)
    for url in URLS[kind]:
        answer = proxy.chat([{"type": "image_url", "image_url": {"url": url}}])
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, f"remote_image_{kind}"), url
    proxy.stop()
    assert asked == []
    assert canary.connections == 0
    assert spy.data == b""


@pytest.mark.parametrize(
    "addresses", [[], ["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["8.8.8.8", "::1"], ["2002:7f00:1::"]]
)
def test_a_name_that_leads_inside_is_refused_whatever_else_it_leads_to(canary, addresses):
    resolve, asked = answers(addresses)
    remote = RemoteImages(hosts=frozenset({HOST}), port=canary.port, resolve=resolve)
    with pytest.raises(RemoteImageAddress):
        asyncio.run(remote.fetch(f"https://{HOST}/a.png", "x", [].append))
    assert asked == [HOST]
    assert canary.connections == 0


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "Images.example.org", "*.example.org", "a.example.org:443", "[::1]", "", "1.2"]
)
def test_only_names_can_be_allowed(host):
    with pytest.raises(OptionError, match="no host"):
        check_host(host)


def test_without_hosts_nothing_is_fetched():
    with pytest.raises(RemoteImageForbidden, match="data URLs only"):
        RemoteImages().split(f"https://{HOST}/a.png", "x")
    with pytest.raises(RemoteImageHost):
        RemoteImages(hosts=frozenset({"a.example.org"})).split(f"https://{HOST}/a.png", "x")


def test_the_systems_resolver_gives_addresses():
    assert asyncio.run(resolve_all("127.0.0.1", 443)) == ["127.0.0.1"]
