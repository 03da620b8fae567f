"""Answers leave in one packet."""

from __future__ import annotations

import asyncio

import pytest

from fhir_server.http.joined import SMALL, Joined

pytestmark = pytest.mark.anyio


class Wire:
    """A transport that notes what it is told."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


async def test_head_and_body_leave_together() -> None:
    """What is written in one turn is one write, what comes later another."""
    wire = Wire()
    joined = Joined(wire, asyncio.get_running_loop())  # type: ignore[arg-type]
    joined.write(b"head")
    joined.write(b"body")
    assert wire.sent == []
    await asyncio.sleep(0)
    joined.write(b"more")
    await asyncio.sleep(0)
    assert wire.sent == [b"headbody", b"more"]


async def test_close_sends_what_is_held() -> None:
    """Closing loses nothing, and nothing is written after it."""
    wire = Wire()
    joined = Joined(wire, asyncio.get_running_loop())  # type: ignore[arg-type]
    joined.write(b"last")
    joined.close()
    joined.write(b"late")
    await asyncio.sleep(0)
    assert (wire.sent, wire.closed, joined.is_closing()) == ([b"last"], True, True)


async def test_large_bodies_are_not_copied() -> None:
    """Above the limit head and body are written apart."""
    wire = Wire()
    joined = Joined(wire, asyncio.get_running_loop())  # type: ignore[arg-type]
    large = b"x" * SMALL
    joined.write(b"head")
    joined.write(large)
    await asyncio.sleep(0)
    assert wire.sent == [b"head", large]
