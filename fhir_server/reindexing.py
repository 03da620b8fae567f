"""The command `reindex`: writes the search entries of stored resources anew, beside a running server or without one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiles.model import RESOURCE_TYPES
from profiles.outcome import FhirError

if TYPE_CHECKING:
    from fhir_server.config import Config
    from fhir_server.store import Store
    from fhir_server.store.reindex import Job

WAIT = 0.5  # seconds between two looks at a job that another process has in hand

Types = Annotated[list[str] | None, typer.Argument(help="Resource types; without one, all.")]
Mongo = Annotated[str | None, typer.Option(help="URL of a MongoDB replica set; without it, the embedded one.")]
Data = Annotated[Path | None, typer.Option(help="Folder of the embedded database.", show_default=".data")]
BaseUrl = Annotated[str | None, typer.Option(help="The server's own base URL, as `serve` has it.")]


def reindex(types: Types = None, mongo: Mongo = None, data: Data = None, base_url: BaseUrl = None) -> None:
    """Write the search entries of stored resources anew; a run that was stopped goes on where it was."""
    from fhir_server.cli import settings

    wanted = tuple(sorted(set(types or RESOURCE_TYPES)))
    unknown = [name for name in wanted if name not in RESOURCE_TYPES]
    if unknown:
        typer.echo(f"{unknown[0]} is not a resource type of FHIR R4", err=True)
        raise typer.Exit(2)
    try:
        job = asyncio.run(_reindex(wanted, settings(mongo=mongo, data=data, base_url=base_url)))
    except FhirError as error:
        typer.echo(error.text, err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("Stopped. Run the command again to go on from here.", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"{job.done} resources looked at, {job.changed} written anew.")


async def _reindex(types: tuple[str, ...], config: Config) -> Job:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from fhir_server.app import embedded_url
    from fhir_server.store import open_store

    async with AsyncExitStack() as stack:
        store = await open_store(config.mongo or await embedded_url(config, stack), config.database)
        stack.push_async_callback(store.close)
        with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()) as bars:
            bar = bars.add_task("resources", total=None)
            return await carried_out(
                store, types, config.base, lambda job: bars.update(bar, completed=job.done, total=job.total)
            )


async def carried_out(store: Store, types: tuple[str, ...], base: str, tell: Callable[[Job], None]) -> Job:
    """The job for these types, finished: by this process, or by a server that was quicker to take it."""
    from fhir_server.ids import TimeOrdered
    from fhir_server.store.find_parameters import Parameters
    from fhir_server.store.reindex import Job, jobs, start, work
    from search.params import Registry

    new_id = TimeOrdered()
    parameters = Parameters(store, Registry.r4())
    await parameters.refresh()
    left = [job for job in await jobs(store) if job.types == types and not (job.finished or job.parameter)]
    job = left[0] if left else await start(store, Job(f"all/{new_id()}", types))
    owner, name = new_id(), job.name
    while not job.finished:
        await work(store, lambda: parameters.registry, owner, base, lambda now: tell(now) if now.name == name else None)
        job = next(row for row in await jobs(store) if row.name == name)
        tell(job)
        if not job.finished:
            await asyncio.sleep(WAIT)
            await parameters.refresh()
    return job
