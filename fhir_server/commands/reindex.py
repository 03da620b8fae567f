"""The command `reindex`: writes the search entries of stored resources anew, beside a running server or without one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fhir_server.commands.options import Data, Mongo, on_database
from profiles.model import RESOURCE_TYPES
from profiles.outcome import FhirError

if TYPE_CHECKING:
    from fhir_server.config import Config
    from fhir_server.loading.http import Http
    from fhir_server.store import Store
    from fhir_server.store.reindex import Job

WAIT = 0.5  # seconds between two looks at a job that another process has in hand

Types = Annotated[list[str] | None, typer.Argument(help="Resource types; without one, all.")]
BaseUrl = Annotated[str, typer.Option(help="Have the server at this URL do it, and watch.")]
Token = Annotated[str, typer.Option(envvar="FHIR_TOKEN", help="Bearer token for --base-url.")]


def reindex(
    types: Types = None, base_url: BaseUrl = "", mongo: Mongo = None, data: Data = None, token: Token = ""
) -> None:
    """Write the search entries of stored resources anew; a run that was stopped goes on where it was."""

    wanted = tuple(sorted(set(types or RESOURCE_TYPES)))
    unknown = [name for name in wanted if name not in RESOURCE_TYPES]
    if unknown:
        typer.echo(f"{unknown[0]} is not a resource type of FHIR R4", err=True)
        raise typer.Exit(2)
    try:
        if base_url:
            done, changed = asyncio.run(_watched(base_url, token, tuple(types or ())))
        else:
            job = asyncio.run(_reindex(wanted, on_database(mongo, data)))
            done, changed = job.done, job.changed
    except (FhirError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("Stopped. Run the command again to go on from here.", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"{done} resources looked at, {changed} written anew.")


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """A progress bar that is told how many are done of how many."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()) as bars:
        bar = bars.add_task("resources", total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


async def _watched(base_url: str, token: str, types: tuple[str, ...]) -> tuple[int, int]:
    """Ask a server, and look at its job until that is finished."""
    from fhir_server.loading.http import Http

    server = Http(base_url, 1, token)
    try:
        with _bar() as tell:
            query = "&".join(f"type={name}" for name in types)
            job = await _told(server, "POST", f"$reindex?{query}")
            while not job["finished"]:
                await asyncio.sleep(WAIT)
                job = await _told(server, "GET", f"$reindex-status?job={job['name']}")
                tell(job["done"], job["total"])
        return job["done"], job["changed"]
    finally:
        await server.close()


async def _told(server: Http, method: str, url: str) -> dict[str, Any]:
    """The job in an answer; FhirError with what the server says otherwise."""
    from fhir_server.loading.answers import Message
    from profiles.json import decode

    answer = await server.send(Message(method, url, b""))
    content: Any = decode(answer.body)
    if answer.status not in (200, 202):
        raise FhirError("processing", f"{answer.status}: {content['issue'][0]['diagnostics']}")
    parts = content["parameter"][0]["part"]
    return {part["name"]: next(value for name, value in part.items() if name != "name") for part in parts}


async def _reindex(types: tuple[str, ...], config: Config) -> Job:
    from fhir_server.opening import embedded_url
    from fhir_server.store import open_store

    async with AsyncExitStack() as stack:
        url = config.mongo or await embedded_url(config, stack)
        store = await open_store(url, config.database)
        stack.push_async_callback(store.close)
        with _bar() as tell:
            return await carried_out(store, types, config.base, lambda job: tell(job.done, job.total))


async def carried_out(store: Store, types: tuple[str, ...], base: str, tell: Callable[[Job], None]) -> Job:
    """The job for these types, finished: by this process, or by a server that was quicker to take it."""
    from fhir_server.ids import TimeOrdered
    from fhir_server.store.find.parameters import Parameters
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
