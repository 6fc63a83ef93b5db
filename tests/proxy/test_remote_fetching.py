"""Images that are fetched from an operator's host: over TLS, from the checked address, within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import functools
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from safevlm_runtime.proxy.remote_images import RemoteImages
from safevlm_runtime.proxy.settings import ProxyLimits
from safevlm_sdk.errors import (
    ImageTooLarge,
    RemoteImageError,
)

HOST = "images.example.org"


def answers(*rounds):
    """A resolver that gives one list of addresses after the other, and what it was asked."""
    asked = []

    async def resolve(host, port):
        asked.append(host)
        return list(rounds[min(len(asked), len(rounds)) - 1])

    return resolve, asked


class Images(ThreadingHTTPServer):
    """A web server with a certificate for HOST; keeps what it was asked and by which name."""

    daemon_threads = True

    def __init__(self, image, chain):
        self.image, self.asked, self.waiting = image, [], threading.Event()
        super().__init__(("127.0.0.1", 0), ImagesHandler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        context.sni_callback = lambda _, name, __: self.asked.append(name)
        self.socket = context.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request, client_address):
        """A client that does not trust the certificate is nothing to print."""


class ImagesHandler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        """Silent."""

    def do_GET(self):
        self.server.asked.append((self.headers["host"], self.path))
        if self.path == "/redirect-later":
            self.server.waiting.wait(20)
        if self.path.startswith("/redirect"):
            self.send_response(302)
            self.send_header("location", "/a.png")
            self.send_header("content-length", "0")
            self.end_headers()
        elif self.path == "/slow":
            self.send_response(200)
            self.end_headers()
            self.server.waiting.set()
            self.connection.settimeout(20)
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                self.connection.recv(1)
        else:
            self.send_response(200)
            if self.path == "/gzip":
                self.send_header("content-encoding", "gzip")
            self.end_headers()
            self.wfile.write(b"x" * 5000 if self.path == "/big" else self.server.image)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for HOST with its key, as a PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "chain.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture(scope="module")
def images(encode, certificate):
    server = Images(encode((0, 250, 0), kind="JPEG"), certificate)
    thread = threading.Thread(target=functools.partial(server.serve_forever, 0.02), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join(20)
    server.server_close()


@pytest.fixture
def remote(images, certificate):
    """Fetches from the server, and what its resolver was asked: a second question would get another address."""
    images.asked.clear()
    resolve, asked = answers(["127.0.0.1"], ["127.0.0.3"])
    tls = ssl.create_default_context(cafile=certificate)
    allows = {"127.0.0.1"}.__contains__
    made = RemoteImages(
        hosts=frozenset({HOST}), max_bytes=4000, resolve=resolve, allows=allows, port=images.server_port, tls=tls,
        seconds=5.0,
    )  # fmt: skip
    return made, asked


def test_an_image_of_a_named_host_is_fetched_judged_and_sent_as_its_raster(
    start_proxy, spy, images, remote, raster_of
):
    spy.clear()
    proxy = start_proxy(remote=remote[0])
    answer = proxy.chat([{"type": "image_url", "image_url": {"url": f"https://{HOST}/a/b.png?sig=1%2F"}}])
    proxy.stop()
    assert answer.headers["x-safevlm-action"] == "allow"
    sent = spy.body()["messages"][0]["content"][0]["image_url"]["url"]
    assert raster_of(sent) == proxy.screener.verdicts[0].raster_sha256
    assert HOST.encode() not in spy.data
    assert remote[1] == [HOST]
    assert images.asked == [HOST, (HOST, "/a/b.png?sig=1%2F")]


@pytest.mark.parametrize("path", ["/redirect", "/gzip", "/slow"])
def test_redirects_compression_and_slowness_are_errors(images, remote, path):
    made = remote[0]
    if path == "/slow":
        made = RemoteImages(
            hosts=made.hosts, resolve=made.resolve, allows=made.allows, port=made.port, tls=made.tls, seconds=0.3
        )
    with pytest.raises(RemoteImageError) as caught:
        asyncio.run(made.fetch(f"https://{HOST}{path}", "x", [].append))
    assert caught.value.code == "remote_image_failed"
    assert len(images.asked) <= 2


def test_an_image_of_too_many_bytes_is_not_read_to_its_end(images, remote):
    with pytest.raises(ImageTooLarge) as found:
        asyncio.run(remote[0].fetch(f"https://{HOST}/big", "input[3].image_url", [].append))
    assert (found.value.code, found.value.param) == ("image_too_large", "input[3].image_url")


def test_another_certificate_is_not_trusted(images, remote):
    made = remote[0]
    doubtful = RemoteImages(hosts=made.hosts, resolve=made.resolve, allows=made.allows, port=made.port)
    with pytest.raises(RemoteImageError, match="could not be fetched"):
        asyncio.run(doubtful.fetch(f"https://{HOST}/a.png", "x", [].append))
    assert (HOST, "/a.png") not in images.asked


def asked_for(*paths):
    return [{"type": "image_url", "image_url": {"url": f"https://{HOST}{path}"}} for path in paths]


def test_the_bytes_that_are_fetched_count_as_the_requests(make_proxy, spy, images, remote):
    limits = ProxyLimits(buffered_bytes=6000)
    made = dataclasses.replace(remote[0], resolve=answers(["127.0.0.1"])[0], max_bytes=5000)
    proxy = make_proxy(remote=made, limits=limits)
    assert "x-safevlm-error" in proxy.chat(asked_for("/big")).headers  # it is fetched, and no image
    answer = proxy.chat(asked_for("/big", "/big"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "overloaded")
    assert proxy.gateway.buffered.held == 0
    assert spy.data == b""


def test_an_image_that_cannot_be_fetched_ends_the_fetching_of_the_others(make_proxy, images, remote):
    images.waiting.clear()
    proxy = make_proxy(remote=dataclasses.replace(remote[0], resolve=answers(["127.0.0.1"])[0], seconds=60.0))

    async def fetching():
        return [
            name for name in (str(task.get_coro()) for task in asyncio.all_tasks()) if "Completions._fetched" in name
        ]

    answer = proxy.chat(asked_for("/slow", "/redirect-later"))
    assert answer.json()["error"]["code"] == "remote_image_failed"
    loop = proxy._server.servers[0].get_loop()
    assert asyncio.run_coroutine_threadsafe(fetching(), loop).result(60) == []
