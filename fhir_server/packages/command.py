"""What the commands `install`, `packages` and `validate` do."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import Progress

from fhir_server import logs
from fhir_server.config import Config
from fhir_server.context import Context
from fhir_server.loading.answers import Message
from fhir_server.loading.http import Http
from fhir_server.opening import open_context
from fhir_server.packages.files import Source, with_dependencies
from fhir_server.packages.install import Report, install, installed, remove
from fhir_server.packages.plan import in_order
from profiles.json import encode, parse
from profiles.outcome import FhirError

Row = dict[str, Any]

SHOWN = 20  # faults told one by one


def ended(running: Coroutine[Any, Any, bool]) -> None:
    """Run a command to its end: exit code 1 when something is left to be wished for, 2 when it could not be done."""
    logs.configure("error")  # a command tells what matters itself
    try:
        fine = asyncio.run(running)
    except (FhirError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    raise typer.Exit(0 if fine else 1)


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[Context]:
    """The database, open while the command runs."""
    async with AsyncExitStack() as stack:
        yield await open_context(config, stack)


async def install_files(paths: Sequence[Path], config: Config, base_url: str, token: str, examples: bool) -> bool:
    """Install the packages and their dependencies beside them; True when every resource was loaded."""
    sources = with_dependencies(paths)
    if base_url:
        reports = await _sent(sources, base_url, token, examples)
    else:
        reports = await _installed(sources, config, examples)
    for report in reports:
        _tell(report)
    return not any(report.faults for report in reports)


async def _installed(sources: Sequence[Source], config: Config, examples: bool) -> list[Report]:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("")

        def tell(name: str, done: int, total: int) -> None:
            progress.update(bar, description=name, completed=done, total=total)

        async with opened(config) as context:
            return await install([source.raw for source in sources], context, with_examples=examples, tell=tell)


async def _sent(sources: Sequence[Source], base_url: str, token: str, examples: bool) -> list[Report]:
    """The reports of a running server, which is sent one package after the other."""
    known = in_order([source.package for source in sources])
    reports = []
    for source in sorted(sources, key=lambda source: known.index(source.package)):
        rows: list[Row] = [{"name": "npmContent", "valueBase64Binary": b64encode(source.raw).decode()}]
        rows += [{"name": "examples", "valueBoolean": True}] if examples else []
        reports += [_report(row) for row in await _asked("POST", "$install", rows, base_url, token)]
    return reports


async def _asked(method: str, operation: str, rows: list[Row], base_url: str, token: str) -> list[Row]:
    """The packages that a running server tells of, each as its parts by name; `missing` and `fault` are lists."""
    target = Http(base_url, 1, token)
    try:
        body = encode({"resourceType": "Parameters", "parameter": rows}) if rows else b""
        answer = await target.send(Message(method, f"ImplementationGuide/{operation}", body))
    finally:
        await target.close()
    found: Any = parse(answer.body)
    if answer.status >= 300:
        raise FhirError("processing", found["issue"][0].get("diagnostics", f"HTTP status {answer.status}"))
    return [_parts(row) for row in found.get("parameter", ())]


def _parts(row: Row) -> Row:
    found: Row = {"missing": [], "fault": []}
    for part in row["part"]:
        value = next(v for k, v in part.items() if k.startswith("value"))
        found[part["name"]] = [*found[part["name"]], value] if part["name"] in ("missing", "fault") else value
    return found


def _report(row: Row) -> Report:
    one = {name: row[name] for name in ("name", "version", "status", "written", "unchanged")}
    return Report(**one, missing=row["missing"], faults=row["fault"])


def _tell(report: Report) -> None:
    typer.echo(
        f"{report.name}#{report.version}: {report.status}; "
        f"{report.written} resources written, {report.unchanged} unchanged"
    )
    for name in report.missing:
        typer.echo(f"  missing: {name}; what is bound to it is not checked", err=True)
    for fault in report.faults[:SHOWN]:
        typer.echo(f"  not loaded: {fault}", err=True)
    if len(report.faults) > SHOWN:
        typer.echo(f"  and {len(report.faults) - SHOWN} more were not loaded", err=True)


async def list_packages(config: Config, base_url: str, token: str) -> bool:
    """One line a package."""
    if base_url:
        rows = await _asked("GET", "$installed", [], base_url, token)
    else:
        async with opened(config) as context:
            records = await installed(context)
        rows = [record | {"resources": len(record["resources"])} for record in records]
    for row in rows:
        examples = ", with examples" if row["examples"] else ""
        typer.echo(f"{row['name']}#{row['version']}: {row['status']}; {row['resources']} resources{examples}")
        for name in row["missing"]:
            typer.echo(f"  missing: {name}")
    return True


async def remove_package(name: str, config: Config, base_url: str, token: str) -> bool:
    """Remove `name` or `name#version`."""
    plain, _, version = name.partition("#")
    if base_url:
        rows = [{"name": "name", "valueString": plain}, {"name": "version", "valueString": version}]
        asked = await _asked("POST", "$uninstall", rows if version else rows[:1], base_url, token)
        report = _report(asked[0])
    else:
        async with opened(config) as context:
            report = await remove(plain, version or None, context)
    typer.echo(f"{report.name}#{report.version}: removed; {report.written} resources deleted")
    for fault in report.faults:
        typer.echo(f"  {fault}", err=True)
    return True
