"""Fetching images from the operator's hosts, where that is switched on: one resolution, one checked address."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import anyio
import httpx

from safevlm_runtime.proxy.addresses import is_public
from safevlm_sdk.errors import (
    ImageTooLarge,
    OptionError,
    RemoteImageAddress,
    RemoteImageError,
    RemoteImageForbidden,
    RemoteImageHost,
)

Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]

_HOST: Final = r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
_URL: Final = re.compile(rf"https://({_HOST})(/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)", re.ASCII)
MAX_URL: Final = 4096


async def resolve_all(host: str, port: int) -> list[str]:
    """All addresses of a name, by the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def check_host(host: str) -> str:
    """A host of the allow-list: a name in lower case, never an address.

    Raises:
        OptionError: It is none.
    """
    if not re.fullmatch(_HOST, host, re.ASCII) or len(host) > 253:
        raise OptionError(f"{host!r} is no host to take images from; give a name such as images.example.org")
    return host


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteImages:
    """Fetches over https from an exact list of hosts; without hosts it refuses every URL.

    Attributes:
        hosts: Names in lower case.
        max_bytes: Of one image.
        seconds: For one image, from the resolution to the last byte.
        resolve: Gives the addresses of a name; asked once per image.
        allows: Whether an address may be connected to.
        port: Of every host.
        tls: None for the system's certificate authorities.
    """

    hosts: frozenset[str] = frozenset()
    max_bytes: int = 10 * 2**20
    seconds: float = 5.0
    resolve: Resolve = field(default=resolve_all)
    allows: Callable[[str], bool] = field(default=is_public)
    port: int = 443
    tls: ssl.SSLContext | None = None

    def split(self, url: str, param: str) -> tuple[str, str]:
        """Host and target of a URL that may be fetched.

        Raises:
            RemoteImageForbidden: Nothing is fetched here, or it is no plain https URL.
            RemoteImageHost: The host is not on the list.
        """
        if not self.hosts:
            raise RemoteImageForbidden(
                "images are taken as data URLs only, and this is none; load the image and send its bytes as "
                "data:image/…;base64,…",
                param=param,
            )
        parts = _URL.fullmatch(url) if len(url) <= MAX_URL else None
        if parts is None:
            raise RemoteImageForbidden(
                "the URL is no plain https://host/path: no port, user, fragment, blank, backslash or address",
                param=param,
            )
        if parts[1] not in self.hosts:
            raise RemoteImageHost("images are not taken from this host; send the image's bytes", param=param)
        return parts[1], parts[2]

    async def fetch(self, url: str, param: str, hold: Callable[[int], None]) -> bytes:
        """The bytes behind a URL.

        Args:
            url: As for `split`.
            param: JSON path for messages.
            hold: Told of the bytes as they come; what it raises ends the fetching.

        Raises:
            RemoteImageError: It may not be fetched, or could not be; nothing that was not checked is connected to.
            ImageTooLarge: There are more than `max_bytes`.
        """
        host, target = self.split(url, param)
        try:
            with anyio.fail_after(self.seconds):
                address = await self._address(host, param)
                return await self._download(host, address, target, param, hold)
        except TimeoutError as problem:
            raise RemoteImageError(f"the image did not come within {self.seconds:g} s", param=param) from problem
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as problem:
            raise RemoteImageError(
                f"the image could not be fetched ({type(problem).__name__})", param=param
            ) from problem

    async def _address(self, host: str, param: str) -> str:
        try:
            addresses = await self.resolve(host, self.port)
        except OSError as problem:
            raise RemoteImageError("the host's name has no address", param=param) from problem
        if not addresses or not all(self.allows(address) for address in addresses):
            raise RemoteImageAddress("the host's name leads to an address that is not public", param=param)
        return addresses[0]

    async def _download(self, host: str, address: str, target: str, param: str, hold: Callable[[int], None]) -> bytes:
        """Connects to the checked address, with the name for the certificate and the Host header."""
        literal = f"[{address}]" if ":" in address else address
        headers = {
            "host": host,
            "accept": "image/png, image/jpeg, image/webp, image/gif",
            "accept-encoding": "identity",
        }
        verify = ssl.create_default_context() if self.tls is None else self.tls
        transport = httpx.AsyncHTTPTransport(verify=verify, retries=0, trust_env=False)
        async with (
            httpx.AsyncClient(transport=transport, follow_redirects=False, trust_env=False) as client,
            client.stream(
                "GET",
                f"https://{literal}:{self.port}{target}",
                headers=headers,
                extensions={"sni_hostname": host},
            ) as response,
        ):
            if response.status_code != 200:
                raise RemoteImageError(
                    f"the host answered {response.status_code}; only 200 is taken, and no redirect is followed",
                    param=param,
                )
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise RemoteImageError("the host compressed the image though it was asked not to", param=param)
            return await self._read(response, param, hold)

    async def _read(self, response: httpx.Response, param: str, hold: Callable[[int], None]) -> bytes:
        data = bytearray()
        async for block in response.aiter_raw():
            data += block
            if len(data) > self.max_bytes:
                raise ImageTooLarge(
                    f"the image has more than {self.max_bytes} bytes; compress or resize it", param=param
                )
            hold(len(block))
        return bytes(data)
