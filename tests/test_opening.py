"""What a process has ready before the first request needs it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress

import pytest
from structlog.testing import capture_logs

from fhir_server.opening import COMMON, attend, warm_up
from profiles.validate import check
from profiles.validate.fast import validator


def test_the_first_check_of_a_common_type_compiles_nothing() -> None:
    asyncio.run(warm_up())
    made = validator.cache_info().misses
    for name in COMMON:
        check({"resourceType": name})
    assert validator.cache_info().misses == made


@pytest.mark.anyio
async def test_work_beside_goes_on_after_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of its own is told, without its message, and the work taken up again, until the server stops."""
    monkeypatch.setattr("fhir_server.opening.REST", 0.01)
    begun, ended = 0, asyncio.Event()

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise KeyError("Shaw")
        with suppress(asyncio.CancelledError):  # as asyncio.wait_for may lose one
            await asyncio.sleep(3600)
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    with capture_logs() as told:
        async with AsyncExitStack() as stack:
            attend(stack, work)
            while begun < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert ended.is_set()
    assert [(row["event"], row["error"]) for row in told] == [("unexpected", "KeyError")] * 2
    assert "Shaw" not in str(told)
    assert "test_opening" in str(told[0]["place"])
