"""uvicorn's HTTP protocol with limits of time and size before the body (docs/security.md)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import MutableMapping
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from fhir_server.answers.links import PAGE
from fhir_server.config import Config
from fhir_server.http.joined import Joined
from fhir_server.http.queries import LONGEST_LINK
from profiles.json import encode
from profiles.outcome import Issue, operation_outcome

# What the application finds in `scope["extensions"]`: the way to send an answer as a whole.
WHOLE = "fhir.answer"
Headers = list[tuple[bytes, bytes]]
LINK = f"{PAGE}=".encode()
CONTROLS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

# A request line whose URL has a space or a byte beyond ASCII.
ODD_URL = re.compile(rb"^[A-Z]+ \S*[\x80-\xff ].* HTTP/1\.[01]\r?$", re.MULTILINE)
UNENCODED = (
    "The URL has characters that must be percent-encoded, such as %C3%BC for ü; curl -G --data-urlencode does that."
)

REASONS = {400: b"Bad Request", 408: b"Request Timeout", 414: b"URI Too Long", 431: b"Request Header Fields Too Large"}


def refusal(status: int, text: str) -> bytes:
    """A whole HTTP answer with an OperationOutcome, after which the connection closes."""
    body = encode(operation_outcome([Issue("error", "too-long" if status in (414, 431) else "invalid", text)]))
    head = b"HTTP/1.1 %d %b\r\ncontent-type: application/fhir+json; charset=utf-8\r\n" % (status, REASONS[status])
    return head + b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(body), body)


def most_of_url(limits: Config, url: bytes) -> int:
    """The bytes that a URL may have: a page link carries what was posted, which may be more than a URL holds."""
    return max(limits.max_url, LONGEST_LINK) if LINK in url else limits.max_url


class Limited(HttpToolsProtocol):
    """The protocol class; its limits are those of the application's configuration, which each worker makes itself."""

    _timer: asyncio.TimerHandle | None = None
    _head = _packet = 0
    _data = b""
    _in_head = True
    _over = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits: Config = self.config.loaded_app.config

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._wire = transport
        super().connection_made(Joined(transport, self.loop))  # type: ignore[arg-type]
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._over = True
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        self._packet, self._data = len(data), data
        if self._in_head:
            self._head += self._packet
        super().data_received(data)
        self._data = b""
        # A head that came whole in one packet, as nearly all do, needs no timer.
        if self._in_head and self._head and self._timer is None and not self._over:
            self._wait_for_head()
        # A body that came in the same packet counts too: four times the limits are still no danger.
        if self._in_head and self._head > self._limits.max_headers + most_of_url(self._limits, self.url):
            self._refuse(431, f"The header lines are longer than {self._limits.max_headers} bytes.")

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        most = most_of_url(self._limits, self.url)
        if len(self.url) > most + len("/fhir?"):
            self._refuse(414, f"The URL is longer than {most} bytes.")

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        most = self._head + self._packet
        self._in_head, self._head = False, 0
        if self._over:
            return
        if most > self._limits.max_headers and self._header_bytes() > self._limits.max_headers:
            self._refuse(431, f"The header lines are longer than {self._limits.max_headers} bytes.")
            return
        hosts = [name for name, _ in self.headers if name == b"host"]
        if len(hosts) != 1 and (hosts or self.parser.get_http_version() == "1.1"):
            self._refuse(400, "An HTTP/1.1 request has one Host (RFC 9112 §3.2).")
            return
        self.scope["extensions"] = {WHOLE: self.answer}  # type: ignore[dict-item]
        try:
            super().on_headers_complete()
        except (UnicodeDecodeError, httptools.HttpParserInvalidURLError):
            self._refuse(400, UNENCODED)

    def _header_bytes(self) -> int:
        return sum(len(name) + len(value) + 4 for name, value in self.headers)

    def answer(self, scope: MutableMapping[str, Any], status: int, headers: Headers, more: bytes, body: bytes) -> bool:
        """Write an answer in one piece; False, and nothing is written, where it has to go uvicorn's way.

        `more` are further header lines that are known to be right. uvicorn looks at each header twice and writes head
        and body apart: a tenth of the time of a read.
        """
        cycle = self.cycle
        if cycle.scope is not scope or cycle.response_started or cycle.disconnected or not cycle.keep_alive:
            return False
        if self.flow.write_paused or CONTROLS.search(b"".join([value for _, value in headers])):
            return False
        lines = [STATUS_LINE[status]]
        for name, value in (*self.server_state.default_headers, *headers):
            lines += (name, b": ", value, b"\r\n")
        self._wire.write(b"".join([*lines, more, b"\r\n", body]))
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()
        return True

    def on_body(self, body: bytes) -> None:
        if not self._over:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        if not self._over:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, UNENCODED if ODD_URL.search(self._data) else "The request is no HTTP.")

    def _wait_for_head(self) -> None:
        self._timer = self.loop.call_later(self._limits.header_seconds, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._refuse(408, f"The header lines did not arrive within {self._limits.header_seconds:g} seconds.")

    def _refuse(self, status: int, text: str) -> None:
        if self._over:
            return
        self._over = True
        self._stop_waiting()
        if not self.transport.is_closing():
            self.transport.write(refusal(status, text))
            self.transport.close()


def uvicorn_settings(config: Config) -> dict[str, Any]:
    """What uvicorn is told besides the address."""
    return {
        "loop": "uvloop",
        "http": Limited,
        "ws": "none",
        "lifespan": "on",
        "access_log": False,
        "server_header": False,
        "date_header": True,
        "proxy_headers": False,
        "timeout_keep_alive": config.idle_seconds,
        "timeout_graceful_shutdown": config.stop_seconds,
        "backlog": 2048,
        "log_config": None,
    }
