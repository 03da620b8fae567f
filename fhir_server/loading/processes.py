"""Loading with several processes, each with its own connections; messages go to the one that has least to do."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import threading
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from fhir_server.config import Config
from fhir_server.loading.answers import Answer, Message
from fhir_server.loading.direct import Direct
from fhir_server.opening import open_context, quiet_collector
from profiles.outcome import FhirError

GONE = Answer(503, b"")  # what a process that died leaves: the message is sent to another


@dataclass(slots=True, eq=False)
class Process:
    """One worker: what it was sent and has not answered."""

    connection: Connection
    process: BaseProcess
    waiting: dict[int, asyncio.Future[Answer]] = field(default_factory=dict)
    sending: asyncio.Lock = field(default_factory=asyncio.Lock)
    alive: bool = True


class Processes:
    """As many workers as asked for, on the database that `config` names by its URL."""

    def __init__(self, config: Config, workers: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._numbers = count()
        self._all = [self._start(config) for _ in range(workers)]

    async def send(self, message: Message) -> Answer:
        """The answer of the worker that has least to do."""
        alive = [worker for worker in self._all if worker.alive]
        if not alive:
            raise FhirError(
                "exception", "All processes of the load have died; with less memory at hand, try --workers 1."
            )
        worker = min(alive, key=lambda worker: len(worker.waiting))
        number = next(self._numbers)
        answer: asyncio.Future[Answer] = self._loop.create_future()
        worker.waiting[number] = answer
        try:
            async with worker.sending:
                await asyncio.to_thread(worker.connection.send, (number, message))
        except OSError:
            self._lost(worker)
        return await answer

    async def close(self) -> None:
        """Let the workers end."""
        for worker in self._all:
            if worker.alive:
                worker.connection.send(None)
        for worker in self._all:
            await asyncio.to_thread(worker.process.join)

    def _start(self, config: Config) -> Process:
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=_serve, args=(theirs, config), daemon=True)
        process.start()
        theirs.close()
        worker = Process(ours, process)
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()
        return worker

    def _listen(self, worker: Process) -> None:
        """Hand the worker's answers over, in a thread of its own."""
        try:
            while True:
                number, answer = worker.connection.recv()
                self._loop.call_soon_threadsafe(_settle, worker.waiting.pop(number), answer)
        except (EOFError, OSError):
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._lost, worker)

    def _lost(self, worker: Process) -> None:
        worker.alive = False
        while worker.waiting:
            _settle(worker.waiting.popitem()[1], GONE)


def _settle(waiting: asyncio.Future[Answer], answer: Answer) -> None:
    """Hand the answer over, unless the load was stopped and nobody waits."""
    if not waiting.done():
        waiting.set_result(answer)


def _serve(connection: Connection, config: Config) -> None:
    """The life of a worker: until it is sent None, or its parent is gone; Ctrl-C is the parent's to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_answer_all(connection, config))


async def _answer_all(connection: Connection, config: Config) -> None:
    async with AsyncExitStack() as stack:
        target = Direct(await open_context(config, stack))
        quiet_collector()
        sending = asyncio.Lock()

        async def answer(number: int, message: Message) -> None:
            done = await target.send(message)
            async with sending:
                await asyncio.to_thread(connection.send, (number, done))

        async with asyncio.TaskGroup() as tasks:
            while (item := await asyncio.to_thread(_receive, connection)) is not None:
                tasks.create_task(answer(*item))


def _receive(connection: Connection) -> tuple[int, Message] | None:
    try:
        item: tuple[int, Message] | None = connection.recv()
    except (EOFError, OSError):
        return None
    return item
