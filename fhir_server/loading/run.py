"""Running a load: units go out in parallel, a busy server is asked again, and what came of each is written down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from fhir_server.loading.answers import Answer, Message, judge, message
from fhir_server.loading.files import File, units
from fhir_server.loading.journal import Failed, Journal
from fhir_server.loading.units import Fault, Passed, Unit, group, narrow
from profiles.outcome import FhirError

# Seconds between the tries of a unit that meets a busy server: two minutes in all.
PAUSES = (0.1, 0.2, 0.5, 1, 2, 4, 8, 15, 30, 60)
KEPT_FAULTS = 10_000  # faults a report holds; the rest is only counted
KEPT_UNITS = 1_000  # units kept for a second chance, with their content
LOCKED = "The server asks for a login: give a token with --token or FHIR_TOKEN."
BUSY = "the server stayed busy for two minutes"


class Target(Protocol):
    """Where resources go."""

    async def send(self, message: Message) -> Answer:
        """Carry the request out."""


@dataclass(slots=True)
class Report:
    """How far a load has come, and at its end what came of it."""

    files: int = 0
    bytes: int = 0
    loaded: int = 0
    known: int = 0
    failed: int = 0
    passed: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return max(time.monotonic() - self.started, 1e-6)

    def fault(self, *faults: Fault) -> None:
        """Take faults in."""
        self.failed += len(faults)
        self.faults += faults[: KEPT_FAULTS - len(self.faults)]


@dataclass(slots=True)
class Load:
    """One load: `width` units at work at once; `tell` is called with the report whenever something was done.

    Without a journal nothing is remembered: for what may be sent again as often as one likes.
    """

    target: Target
    journal: Journal | None
    width: int
    tell: Callable[[Report], None]
    report: Report = field(default_factory=Report)
    known: dict[str, Failed] = field(default_factory=dict)
    failed: list[tuple[Unit, tuple[Fault, ...]]] = field(default_factory=list)
    _rows: dict[str, Failed] = field(default_factory=dict)
    _writing: bool = False

    async def run(self, files: Sequence[File], *, again: bool = False) -> Report:
        """Load the files; `again`: also what an earlier load brought in."""
        self.known = await self.journal.known() if self.journal and not again else {}
        await self.send(self._open(files))
        await self._second_chance()
        return self.report

    async def _second_chance(self) -> None:
        """What failed may have referred to what came later: it is tried once more, and then told."""
        failed, self.failed = self.failed, []
        moved = self.report.loaded > 0
        if moved:
            await self.send(narrow(unit, {fault.number for fault in faults}) for unit, faults in failed)
        for _, faults in self.failed if moved else failed:
            self.report.fault(*faults)

    def _open(self, files: Sequence[File]) -> Iterable[Unit]:
        """The units that are to be sent; everything else is counted on the way."""
        for file in files:
            before = self.report.bytes
            for piece in units(file, partial(self._read, before)):
                if isinstance(piece, Unit):
                    yield from self._due(piece)
                elif isinstance(piece, Passed):
                    self.report.passed.append(piece.file)
                else:
                    self.report.fault(piece)
            self.report.files += 1
            self._read(before, file.size)

    def _read(self, before: int, size: int) -> None:
        """So many bytes of a file have been read, and of those before it."""
        self.report.bytes = before + size
        self.tell(self.report)

    def _due(self, unit: Unit) -> Iterable[Unit]:
        """The part of the unit that no earlier load brought in."""
        failed = self.known.get(unit.key)
        due = unit if failed is None else narrow(unit, failed)
        if failed is not None and not failed:
            self.report.known += unit.count
            return
        self.report.known += unit.count - due.count
        yield due

    async def send(self, due: Iterable[Unit]) -> None:
        """Send the units, `width` at once; the files are read no faster than they go out."""
        source = iter(due)
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(self.width):
                    workers.create_task(self._work(source))
        except ExceptionGroup as group:
            raise group.exceptions[0] from group

    async def _work(self, source: Iterable[Unit]) -> None:
        for unit in source:
            faults = await self._deliver(unit)
            await self._note(unit.key, {fault.number for fault in faults})
            if faults and len(self.failed) < KEPT_UNITS:
                self.failed.append((unit, faults))
            elif faults:
                self.report.fault(*faults)
            self.report.loaded += unit.count - _lost(unit, faults)
            self.tell(self.report)

    async def _note(self, key: str, failed: Failed) -> None:
        """Write the unit down; what is answered meanwhile goes with the next write, so a lone one waits for nobody."""
        if self.journal is None:
            return
        self._rows[key] = failed
        if self._writing:
            return
        self._writing = True
        while self._rows:
            rows, self._rows = self._rows, {}
            await self.journal.record(rows)
        self._writing = False

    async def _deliver(self, unit: Unit) -> tuple[Fault, ...]:
        """Send the unit until it has an answer that counts; what is left of it that failed."""
        for pause in PAUSES:
            answer = await self.target.send(message(unit))
            if answer.status == 401:
                raise FhirError("login", LOCKED)
            verdict = judge(unit, answer)
            if not verdict.repeat:
                break
            await asyncio.sleep(max(answer.pause, pause))
        else:
            return tuple(Fault(unit.file, unit.label, number, BUSY) for number in unit.numbers)
        alone = [await self._deliver(group(unit.file, unit.label, [line])) for line in verdict.apart]
        return (*verdict.faults, *(fault for faults in alone for fault in faults))


def _lost(unit: Unit, faults: Sequence[Fault]) -> int:
    """How many resources of the unit were not loaded."""
    everything = faults and (unit.atomic or not {fault.number for fault in faults} <= set(unit.numbers))
    return unit.count if everything else len(faults)
