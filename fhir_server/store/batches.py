"""Micro-batching (docs/storage.md): what arrives while a call is in flight goes out together in the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")

PATIENCE = 0.002

Send = Callable[[list[Item]], Awaitable[Sequence[Answer | Exception]]]


class Batches(Generic[Item, Answer]):
    """A queue in front of `send`, which answers each item in order with a value or an exception.

    An idle queue sends at once, so a lone request waits for nobody. At most `lanes` calls are in flight, each of at
    most `size` items. A caller that goes away takes only its own answer with it.

    `enough` tells whether so many items are worth a call; fewer wait up to PATIENCE seconds for more.
    """

    def __init__(
        self,
        send: Send[Item, Answer],
        *,
        size: int = 256,
        lanes: int = 1,
        enough: Callable[[int], bool] = bool,
    ) -> None:
        self._send = send
        self._size = size
        self._free = lanes
        self._enough = enough
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._woken = False

    def __call__(self, item: Item) -> asyncio.Future[Answer]:
        """Queue one item; the future is its own answer or its own error."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((item, answer))
        if self._free and not self._woken:
            # One turn of the loop later: whatever the same poll of the sockets delivered goes along.
            self._woken = True
            loop.call_soon(self._start)
        return answer

    async def close(self) -> None:
        """Wait until everything queued has been answered."""
        while self._running or self._waiting:
            await asyncio.sleep(0)
            if self._running:
                await asyncio.wait(self._running)

    def _start(self, due: bool = False) -> None:
        self._woken = False
        if due:
            self._timer = None
        while self._free and self._waiting:
            if not due and not self._enough(len(self._waiting)):
                if self._timer is None:
                    self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._start, True)
                return
            batch = [self._waiting.popleft() for _ in range(min(self._size, len(self._waiting)))]
            self._free -= 1
            task = asyncio.get_running_loop().create_task(self._run(batch))
            self._running.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._free += 1
        self._start()

    async def _run(self, batch: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        wanted = [(item, answer) for item, answer in batch if not answer.cancelled()]
        if not wanted:
            return
        answers: Sequence[Answer | Exception]
        try:
            answers = await self._send([item for item, _ in wanted])
        except Exception as error:
            answers = [error] * len(wanted)
        for (_, future), answer in zip(wanted, answers, strict=True):
            if not future.done():
                _settle(future, answer)


def _settle(future: asyncio.Future[Answer], answer: Answer | Exception) -> None:
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
