"""A wire to addresses that somebody else named: TLS to public addresses alone, no redirects, no proxy of the environment.

The name is looked up here and the connection goes to the very address that was looked at, so that a name which answers
differently the second time leads nowhere else. What the operator names is let through as it is.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Sequence
from urllib.parse import urlsplit

import httpx2

from app.errors import UserError

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host; raises OSError where it has none."""

# What Python calls global, or does from some version on, and is no provider's: https://www.rfc-editor.org/rfc/rfc6890 (clouds
# answer for a machine's own credentials there), https://www.rfc-editor.org/rfc/rfc7526 and
# https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
_NEVER = tuple(ipaddress.ip_network(one) for one in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32"))

# Names for IPv4 addresses inside IPv6, which Python calls global: https://www.rfc-editor.org/rfc/rfc6052
_TRANSLATED = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))


class AddressRefusedError(UserError):
    """No key is sent to this address."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"No key is sent to this address: {why}.", reason="provider_address")


async def resolve(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def is_public(address: str) -> bool:
    """Whether it is an address of the internet at large, and of nobody's own network."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return is_public(str(found.ipv4_mapped))
        if found.sixtofour is not None or found.teredo is not None:
            return False
        if any(found in network for network in _TRANSLATED):
            return False
    elif any(found in network for network in _NEVER):
        return False
    return found.is_global and not found.is_multicast and not found.is_reserved


class Guard:
    """`let_through` are hosts, or `host:port`, that the operator allows although they are private or speak no TLS."""

    def __init__(self, let_through: Collection[str] = (), *, resolve: Resolve = resolve) -> None:
        self._let_through = frozenset(one.lower() for one in let_through)
        self._resolve = resolve

    def lets_through(self, url: str | httpx2.URL) -> bool:
        parts = urlsplit(str(url))
        host = (parts.hostname or "").lower()
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return host in self._let_through or f"{host}:{port}" in self._let_through

    async def require(self, url: str, *, query: bool = False) -> None:
        """`query`: it may have one. Raises AddressRefusedError, and OSError where the host has no address."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or 443
        except ValueError:
            raise AddressRefusedError("it cannot be read") from None
        if parts.username is not None or parts.password is not None:
            raise AddressRefusedError("it holds a name or a password")
        if (parts.query and not query) or parts.fragment:
            raise AddressRefusedError("it has a query" if parts.query and not query else "it has a fragment")
        if parts.scheme not in ("http", "https") or not host:
            raise AddressRefusedError("it has to begin with https://")
        if self.lets_through(url):
            return
        if parts.scheme != "https":
            raise AddressRefusedError("it has to begin with https://")
        await self.address(host, port)

    async def address(self, host: str, port: int) -> str:
        """The address to connect to. Raises AddressRefusedError where any that the name stands for is not public."""
        try:
            found = [str(ipaddress.ip_address(host))]
        except ValueError:
            found = list(await self._resolve(host, port))
        if not found or not all(is_public(one) for one in found):
            raise AddressRefusedError("it leads into a network that is not public")
        return found[0]

    def client(self, timeout: httpx2.Timeout, verify: ssl.SSLContext | bool = True) -> httpx2.AsyncClient:
        """For the SDKs: whatever they are told to ask, only what this guard allows is connected to. `verify` spares making the
        list of trusted authorities anew."""
        return httpx2.AsyncClient(
            transport=_Guarded(self, verify), timeout=timeout, follow_redirects=False, trust_env=False
        )


class _Guarded(httpx2.AsyncBaseTransport):
    def __init__(self, guard: Guard, verify: ssl.SSLContext | bool) -> None:
        self._guard = guard
        self._inner = httpx2.AsyncHTTPTransport(verify=verify, trust_env=False)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        if not self._guard.lets_through(url):
            if url.scheme != "https":
                raise AddressRefusedError("it has to begin with https://")
            try:
                address = await self._guard.address(url.host, url.port or 443)
            except OSError as error:
                raise httpx2.ConnectError("The host has no address.", request=request) from error
            # The certificate is still the name's; the Host header was set when the request was built.
            request.extensions = {**request.extensions, "sni_hostname": url.host}
            request.url = url.copy_with(host=address)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()
