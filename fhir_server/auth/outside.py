"""What the authorization server needs of the world outside: key sets fetched safely, hashes that block nobody."""

from __future__ import annotations

import asyncio
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

from profiles.outcome import FhirError
from smart_auth.realm import Fetch, Fetched, Hashing, Post

MAX_BODY = 262_144
SECONDS = 5.0  # for a step: to connect, or for the next bytes
ALTOGETHER = 10.0  # for an answer that comes byte by byte
NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Argon2id costs 139 ms of a core and 64 MB: two at a time leave the event loop its core, and a queue of 32 is 2.3 s.
POOL, QUEUE = 2, 32


def bounded(pool: int = POOL, queue: int = QUEUE) -> Hashing:
    """Runs slow functions in a few threads; beyond the queue the caller is told to come back (429)."""
    executor = ThreadPoolExecutor(pool, thread_name_prefix="hashing")
    waiting = 0

    async def run(work: Callable[[], Any]) -> Any:
        nonlocal waiting
        if waiting >= queue:
            raise FhirError("throttled", "Too many people log in at once. Try again.", headers={"Retry-After": "2"})
        waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(executor, work)
        finally:
            waiting -= 1

    return run


def fetcher(*, loopback: bool) -> Fetch:
    """Fetches public https documents; private addresses never, loopback only where the server itself is on it.

    The name is resolved once and the connection made to that very address, so that no second answer of a name server
    can lead elsewhere. Redirects are not followed.
    """

    async def fetch(url: str) -> Fetched:
        return await asyncio.to_thread(_ask, "GET", url, loopback)

    return fetch


def poster(*, loopback: bool) -> Post:
    """Sends forms, as carefully as `fetcher` fetches."""

    async def post(url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> Fetched:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return await asyncio.to_thread(_ask, "POST", url, loopback, urlencode(form).encode(), {**headers, **kind})

    return post


def _ask(
    method: str, url: str, loopback: bool, content: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Fetched:
    parts = urlsplit(url)
    address = _address(parts, loopback)
    held: list[socket.socket] = []
    connection = _connection(parts, partial(_connect, address, held))
    cutting = threading.Timer(ALTOGETHER, _cut, (held,))
    cutting.start()
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        sent = {"Accept": "application/json", "Host": parts.netloc, **(headers or {})}
        connection.request(method, target, content, sent)
        found = connection.getresponse()
        body = found.read(MAX_BODY + 1)
        left = 0 if len(body) > MAX_BODY else found.length or 0
    except http.client.HTTPException as error:
        raise OSError("the answer is not HTTP") from error
    finally:
        cutting.cancel()
        connection.close()
        for each in held:
            each.close()
    if left:
        raise OSError("the answer is cut off")
    if len(body) > MAX_BODY:
        raise OSError("the answer is too large")
    return Fetched(found.status, {name.lower(): value for name, value in found.getheaders()}, body)


def _address(parts: SplitResult, loopback: bool) -> str:
    port = parts.port or (443 if parts.scheme == "https" else 80)
    rows = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    addresses = [str(row[4][0]) for row in rows]
    if parts.scheme not in ("https", "http") or parts.username is not None:
        raise OSError("only https is fetched")
    if not all(allowed(address, parts.scheme, loopback) for address in addresses):
        raise OSError("the address is not public")
    return addresses[0]


def allowed(address: str, scheme: str, loopback: bool) -> bool:
    """Whether an address may be connected to: a public one by https, loopback where that is allowed."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    ip = inner_address(ip) if isinstance(ip, ipaddress.IPv6Address) else ip
    if ip.is_loopback:
        return loopback
    return scheme == "https" and ip.is_global and not ip.is_multicast


def inner_address(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that an IPv6 one leads to: mapped, 6to4 (RFC 3056), NAT64 (RFC 6052); else itself."""
    translated = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in NAT64 else None
    return ip.ipv4_mapped or ip.sixtofour or translated or ip


def _connection(parts: SplitResult, connect: Callable[..., socket.socket]) -> http.client.HTTPConnection:
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    made = (
        http.client.HTTPSConnection(parts.hostname or "", port, timeout=SECONDS, context=ssl.create_default_context())
        if secure
        else http.client.HTTPConnection(parts.hostname or "", port, timeout=SECONDS)
    )
    # http.client connects through this attribute: the checked address instead of the name.
    made._create_connection = connect  # type: ignore[attr-defined]
    return made


def _connect(
    address: str, held: list[socket.socket], named: tuple[str, int], *rest: Any, **options: Any
) -> socket.socket:
    made = socket.create_connection((address, named[1]), *rest, **options)
    held.append(made.dup())
    return made


def _cut(held: list[socket.socket]) -> None:
    """End a connection from another thread, wherever it waits."""
    for each in held:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
