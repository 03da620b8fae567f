"""Micro-batching: who travels together, and that everybody gets his own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from fhir_server.store.batches import Batches

pytestmark = pytest.mark.anyio


class Line:
    """A destination that notes what arrives and answers the double when it is let go."""

    def __init__(self) -> None:
        self.sent: list[list[int]] = []
        self.gate = asyncio.Event()

    async def send(self, items: list[int]) -> Sequence[int | Exception]:
        self.sent.append(items)
        await self.gate.wait()
        return [ValueError(str(item)) if item < 0 else 2 * item for item in items]


@pytest.fixture
def line() -> Line:
    return Line()


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_idle_sends_at_once(line: Line) -> None:
    """A lone item waits for nobody."""
    answer = Batches(line.send)(1)
    await settle()
    assert line.sent == [[1]]
    line.gate.set()
    assert await answer == 2


async def test_few_wait_for_more_but_not_for_long(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a call is worth it for three, two items wait a moment; the third, or the end of patience, sends them."""
    monkeypatch.setattr("fhir_server.store.batches.PATIENCE", 0.5)
    line.gate.set()
    batches = Batches(line.send, enough=lambda waiting: waiting >= 3)
    answers = [batches(1), batches(2)]
    await settle()
    assert line.sent == []
    answers.append(batches(3))
    await settle()
    assert line.sent == [[1, 2, 3]]
    answers.append(batches(4))
    assert await asyncio.gather(*answers) == [2, 4, 6, 8]
    assert line.sent == [[1, 2, 3], [4]]
    await batches.close()


async def test_what_arrives_meanwhile_travels_together(line: Line) -> None:
    """While one call is in flight the next is gathered, up to its size."""
    batches = Batches(line.send, size=3)
    answers = [batches(1)]
    await settle()
    answers += [batches(n) for n in range(2, 7)]
    await settle()
    assert line.sent == [[1]]
    line.gate.set()
    assert await asyncio.gather(*answers) == [2, 4, 6, 8, 10, 12]
    assert line.sent == [[1], [2, 3, 4], [5, 6]]


async def test_lanes_bound_what_is_in_flight(line: Line) -> None:
    """With two lanes two calls are in flight, and no third."""
    batches = Batches(line.send, size=1, lanes=2)
    answers = [batches(n) for n in range(4)]
    await settle()
    assert line.sent == [[0], [1]]
    line.gate.set()
    assert await asyncio.gather(*answers) == [0, 2, 4, 6]


async def test_each_gets_its_own_error(line: Line) -> None:
    """One item's error is not its neighbour's."""
    line.gate.set()
    batches = Batches(line.send)
    good, bad = await asyncio.gather(batches(1), batches(-1), return_exceptions=True)
    assert good == 2
    assert isinstance(bad, ValueError)


async def test_an_error_of_the_call_is_everybodys() -> None:
    """A call that fails as a whole fails all, and the queue goes on."""

    async def send(items: list[int]) -> list[int | Exception]:
        if 13 in items:
            raise RuntimeError("no")
        return list(items)

    batches = Batches(send)
    answers = await asyncio.gather(batches(12), batches(13), return_exceptions=True)
    assert [type(answer) for answer in answers] == [RuntimeError, RuntimeError]
    assert await batches(14) == 14


async def test_a_caller_that_goes_away_takes_nobody_along(line: Line) -> None:
    """Cancelled before or after sending: the others are answered."""
    batches = Batches(line.send)
    flying = batches(1)
    await settle()
    waiting = [batches(2), batches(3)]
    flying.cancel()
    waiting[0].cancel()
    line.gate.set()
    assert await waiting[1] == 6
    assert line.sent == [[1], [3]]
    await batches.close()


async def test_a_batch_of_which_all_have_gone_is_not_sent(line: Line) -> None:
    """Nothing is asked of the database for nobody."""
    batches = Batches(line.send)
    batches(1).cancel()
    await batches.close()
    assert line.sent == []


async def test_close_waits_for_everything(line: Line) -> None:
    """After close every item has its answer."""
    batches = Batches(line.send, size=1)
    answers = [batches(n) for n in range(3)]
    asyncio.get_running_loop().call_later(0.01, line.gate.set)
    await batches.close()
    assert [answer.result() for answer in answers] == [0, 2, 4]
