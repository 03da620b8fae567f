"""Loading through a running server: plain HTTP/1.1 on kept connections, one a thread."""

from __future__ import annotations

import asyncio
import http.client
import re
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from fhir_server.loading.answers import Answer, Message
from profiles.outcome import FhirError

SECONDS = 120  # until an answer is given up; a transaction of a thousand resources takes about one
STARTING = 10  # seconds that a server may take until it listens
BROKEN = 503  # what a lost connection counts as: the request is repeated
LOCATION = re.compile(rb"([A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64})/_history/")
JSON = "application/fhir+json"


class Http:
    """A FHIR server behind a base URL."""

    def __init__(self, base_url: str, width: int, token: str = "") -> None:
        """`width`: requests at work at once; `token`: a bearer token for every request."""
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{base_url!r} is no base URL such as http://127.0.0.1:8000/fhir")
        self._parts = parts
        self._token = token
        self.broken = ""  # why the last connection was lost
        self.witness = ""  # something that was stored, such as Patient/1
        self._threads = ThreadPoolExecutor(width, "load")
        self._local = threading.local()
        self._opened: list[http.client.HTTPConnection] = []

    async def send(self, message: Message) -> Answer:
        """The server's answer; a lost connection counts as a busy server."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._send, message)

    async def greet(self, base_url: str) -> None:
        """FhirError with one sentence where no FHIR server answers; one that is starting is waited for."""
        hello = Message("GET", "metadata?_elements=fhirVersion", b"")
        for _ in range(STARTING):
            answer = await self.send(hello)
            if answer.status != BROKEN:
                break
            await asyncio.sleep(1)
        if answer.status == BROKEN and self.broken:
            raise FhirError("transient", f"{base_url} does not answer: {self.broken}")
        if answer.status in (404, 405) or (answer.status == 200 and b"CapabilityStatement" not in answer.body):
            hint = "" if self._parts.path.strip("/") else f" Is it {base_url.rstrip('/')}/fhir?"
            raise FhirError("not-found", f"There is no FHIR server at {base_url}.{hint}")

    async def lacks(self, witness: str) -> bool:
        """Whether the server has never heard of what it stored before: then it is not the same database."""
        return (await self.send(Message("GET", witness, b""))).status == 404

    async def close(self) -> None:
        """Let the threads end, and their connections."""
        self._threads.shutdown()
        for connection in self._opened:
            connection.close()

    def _send(self, message: Message) -> Answer:
        try:
            return self._exchange(self._connection(), message)
        except (OSError, http.client.HTTPException) as error:
            self._connection().close()
            del self._local.connection
            self.broken = getattr(error, "strerror", None) or type(error).__name__
            text = f'{{"issue":[{{"severity":"error","diagnostics":"no answer: {type(error).__name__}"}}]}}'
            return Answer(BROKEN, text.encode())

    def _exchange(self, connection: http.client.HTTPConnection, message: Message) -> Answer:
        path = f"{self._parts.path.rstrip('/')}/{message.url}".rstrip("/")
        connection.request(message.method, path or "/", message.body or None, self._headers(message))
        response = connection.getresponse()
        body = response.read()
        if response.status in (200, 201) and message.body:
            stored = LOCATION.search(body)
            self.witness = stored[1].decode() if stored else message.url or self.witness
        return Answer(response.status, body, _seconds(response.getheader("Retry-After")))

    def _headers(self, message: Message) -> dict[str, str]:
        headers = {"Content-Type": JSON, "Accept": JSON, "Prefer": "return=minimal"}
        if message.key:
            headers["Idempotency-Key"] = message.key
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers

    def _connection(self) -> http.client.HTTPConnection:
        """This thread's connection; HTTPConnection opens it again after the server closed it."""
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._open()
            self._opened.append(connection)
        return connection

    def _open(self) -> http.client.HTTPConnection:
        host, port = str(self._parts.hostname), self._parts.port
        if self._parts.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=SECONDS)
        return http.client.HTTPSConnection(host, port, timeout=SECONDS, context=ssl.create_default_context())


def _seconds(text: str | None) -> float:
    return float(text) if text and text.isdigit() else 0
