"""The command `audit`: proving the trail, reading alarms, exporting and removing what is old."""

from __future__ import annotations

import asyncio
import getpass
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from fhir_server.commands.options import Data, Mongo, private
from fhir_server.commands.users import Place, group, opened
from profiles.outcome import FhirError
from smart_auth import chain

T = TypeVar("T")
LINKS, EVENTS = "links.ndjson", "AuditEvent.ndjson"

audit = group("The audit trail.")


def run(mongo: str | None, data: Path | None, work: Callable[[Any], Awaitable[T]]) -> T:
    """Run one piece of work on the trail."""

    async def whole() -> T:
        async with opened(Place(mongo, data)) as (_, trail):
            return await work(trail)

    return asyncio.run(whole())


@audit.command("verify")
def verify(
    archive: Annotated[Path | None, typer.Option(help="A folder of `audit export` instead of the database.")] = None,
    mongo: Mongo = None,
    data: Data = None,
) -> None:
    """Check the whole trail; every change, removal and reordering is named, and the exit code is 1."""

    async def work(trail: Any) -> tuple[list[str], Any]:
        if archive is not None:
            return archive_faults(archive, await trail.keys())
        return [fault async for fault in trail.verify()], await trail.journal.last()

    faults, last = run(mongo, data, work)
    for fault in faults:
        typer.echo(fault, err=True)
    if faults:
        raise typer.Exit(1)
    typer.echo(f"The audit trail is whole: {last.number if last else 0} links, head {last.hash if last else '-'}.")


@audit.command("alarms")
def alarms(mongo: Mongo = None, data: Data = None) -> None:
    """Emergency access and replayed tokens: when, what, who and why."""

    async def work(trail: Any) -> list[tuple[str, str, dict[str, Any]]]:
        found: list[tuple[str, str, dict[str, Any]]] = await trail.alarms()
        return found

    for at, kind, details in run(mongo, data, work):
        typer.echo(f"{at}\t{kind}\t{details.get('user') or details.get('client') or '-'}\t{details.get('reason', '')}")


@audit.command("export")
def export(
    folder: Path,
    days: Annotated[int, typer.Option(min=0, help="Only what is older than so many days.")] = 0,
    remove: Annotated[bool, typer.Option("--remove", help="Remove what was written, once it is on the disk.")] = False,
    mongo: Mongo = None,
    data: Data = None,
) -> None:
    """Write events and links of the chain as NDJSON; `audit verify --archive` proves them."""
    count = run(mongo, data, lambda trail: exported(trail, folder, days, remove=remove))
    typer.echo(f"{count} events were written to {folder}" + (" and removed." if remove else "."))


async def exported(trail: Any, folder: Path, days: int, *, remove: bool) -> int:
    """How many events were written; the folder is readable by its owner alone, and what is in it stays."""
    from fhir_server.access import retention

    prepare(folder)
    before, by = trail.now() - timedelta(days=days), getpass.getuser()
    await trail.move()
    count = last = 0
    with private(folder / LINKS) as links, private(folder / EVENTS) as events:
        async for link, bodies in retention.old(trail, before):
            row = {"number": link.number, "before": link.before, "text": link.text.decode(), "hash": link.hash}
            links.write(json.dumps(row).encode() + b"\n")
            events.writelines(body + b"\n" for body in bodies)
            count, last = count + len(bodies), link.number
    await trail.note("audit-exported", {"user": by, "reason": f"{count} events before {before.isoformat()}"})
    if remove:
        await retention.remove(trail, before, by, last)
    return count


def prepare(folder: Path) -> None:
    """Make the folder; FhirError where it holds an export already."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (folder / LINKS).exists():
        raise FhirError("duplicate", f"There is an export in {folder} already; name another folder.")


def archive_faults(folder: Path, keys: Sequence[bytes]) -> tuple[list[str], chain.Link | None]:
    """Every fault of an export, and its last link."""
    rows = [json.loads(line) for line in (folder / LINKS).read_bytes().splitlines()]
    links = [chain.Link(row["number"], row["before"], row["text"].encode(), row["hash"]) for row in rows]
    if not links:
        return [], None
    first = chain.Link(links[0].number - 1, "", b"", links[0].before)
    faults = list(chain.Proof(keys, first).faults(links))
    bodies = (folder / EVENTS).read_bytes().splitlines()
    found = {json.loads(body)["id"]: chain.digest(body) for body in bodies}
    told = {link.number: [json.loads(line)[0] for line in link.lines] for link in links if link.tells}
    for link in links:
        wanted = zip(told.get(link.of or 0, ()), (line.decode() for line in link.lines), strict=False)
        faults += chain.event_faults(wanted, found)
    return faults, links[-1]
