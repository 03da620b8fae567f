"""What the commands `load` and `seed` do."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from fhir_server.config import Config
from fhir_server.loading.direct import Direct
from fhir_server.loading.files import File, find
from fhir_server.loading.hospital import load_hospital
from fhir_server.loading.http import Http
from fhir_server.loading.journal import Beside, Journal, Kept, folder_for
from fhir_server.loading.processes import Processes
from fhir_server.loading.report import progress, summarize
from fhir_server.loading.run import Load, Report, Target
from fhir_server.opening import embedded_url, open_context, quiet_collector
from fhir_server.store import Store
from profiles.outcome import FhirError

UNITS_EACH = 3  # units a process has at once: one that it works on, and two that wait for the database
MOST_PROCESSES = 4  # by default; beyond that the database is what is waited for


@dataclass(frozen=True, slots=True)
class Way:
    """How to reach where the resources go."""

    config: Config
    base_url: str = ""
    workers: int = 0
    token: str = ""

    @property
    def processes(self) -> int:
        """As asked for, or one a processor but for the database's."""
        return self.workers or min(MOST_PROCESSES, max(1, (os.cpu_count() or 1) - 1))

    @property
    def connections(self) -> int:
        """As asked for, or two a processor."""
        return self.workers or 2 * (os.cpu_count() or 1)


def finish(running: Coroutine[Any, Any, Report]) -> None:
    """Run a load to its end: exit code 1 when something failed, 2 when it could not begin or go on.

    SIGTERM stops it like Ctrl-C, so that an embedded database is ended too.
    """
    try:
        report = asyncio.run(_until_told(running))
    except (FhirError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    except (KeyboardInterrupt, asyncio.CancelledError) as error:
        typer.echo("Stopped. Run the command again to go on from here.", err=True)
        raise typer.Exit(130) from error
    raise typer.Exit(1 if report.failed else 0)


async def _until_told(running: Coroutine[Any, Any, Report]) -> Report:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await running


async def load_files(paths: Sequence[Path], way: Way, *, again: bool = False) -> Report:
    """Load what lies under the paths, with a progress bar and a summary."""
    console = Console(stderr=True)
    files, faults = find(paths)
    report = await _load(files, paths, way, again, console) if files else Report()
    report.fault(*faults)
    summarize(console, report)
    return report


async def _load(files: Sequence[File], paths: Sequence[Path], way: Way, again: bool, console: Console) -> Report:
    with progress(console, files) as tell:
        async with reached(way, folder_for(paths)) as (target, journal, width):
            return await Load(target, journal, width, tell).run(files, again=again)


async def seed_hospital(patients: int, random_seed: int, way: Way) -> Report:
    """Make and load the synthetic hospital, with a summary."""
    console = Console(stderr=True)
    with console.status("Making the hospital"):
        async with reached(way, Path.cwd()) as (target, _, width):
            report = await load_hospital(target, patients, random_seed, width)
    summarize(console, report)
    return report


@asynccontextmanager
async def reached(way: Way, folder: Path) -> AsyncIterator[tuple[Target, Journal, int]]:
    """The target, its journal (in the database, or in `folder`), and how many units it takes at once."""
    if way.base_url:
        target = Http(way.base_url, way.connections, way.token)
        try:
            await target.greet(way.base_url)
            yield target, Beside(folder, way.base_url, target), way.connections
        finally:
            await target.close()
        return
    async with AsyncExitStack() as stack:
        url = way.config.mongo or await embedded_url(way.config, stack)
        config = way.config.model_copy(update={"mongo": url})
        context = await open_context(config, stack)
        assert isinstance(context.store, Store)
        if way.processes == 1:
            quiet_collector()
            yield Direct(context), Kept(context.store), UNITS_EACH
            return
        processes = Processes(config, way.processes)
        stack.push_async_callback(processes.close)
        yield processes, Kept(context.store), way.processes * UNITS_EACH
