"""The ceiling: what the HTTP server answers per second when the application does nothing."""

from __future__ import annotations

import sys
from typing import Any

import uvicorn

from bench.data import patient

BODY = patient(1)
HEADERS = [
    (b"content-type", b"application/fhir+json;charset=utf-8"),
    (b"content-length", str(len(BODY)).encode()),
    (b"etag", b'W/"1"'),
    (b"last-modified", b"Mon, 01 Jan 2024 00:00:00 GMT"),
]
START: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": HEADERS}
CONTENT: dict[str, Any] = {"type": "http.response.body", "body": BODY}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer every request with one Patient."""
    if scope["type"] == "http":
        await send(START)
        await send(CONTENT)


if __name__ == "__main__":
    options: dict[str, Any] = {"loop": "uvloop", "http": "httptools", "access_log": False, "lifespan": "off"}
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", server_header=False, **options)
