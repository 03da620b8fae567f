"""The command line: every option is also an environment variable FHIR_NAME (docs/architecture.md)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from fhir_server.commands import packages as package_commands
from fhir_server.commands import tenants as tenant_commands
from fhir_server.commands import terminology as terminology_commands
from fhir_server.commands.audit import audit
from fhir_server.commands.key import key
from fhir_server.commands.load import load, seed
from fhir_server.commands.options import settings
from fhir_server.commands.reindex import reindex
from fhir_server.commands.users import GROUPS
from profiles.outcome import FhirError

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def version(
    ask: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=lambda asked: _tell_version() if asked else None)
    ] = False,
) -> None:
    """A standards-first FHIR R4 server on MongoDB."""


def _tell_version() -> None:
    typer.echo(f"fhir-server {metadata.version('fhir-server')}")
    raise typer.Exit


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port.", show_default="8000")] = None,
    workers: Annotated[int | None, typer.Option(help="Server processes.", show_default="1")] = None,
    mongo: Annotated[
        str | None, typer.Option(help="URL of a MongoDB replica set; without it, an embedded one.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the embedded database.", show_default=".data")] = None,
    auth: Annotated[str | None, typer.Option(help="smart or none; none is for loopback only.")] = None,
    base_url: Annotated[str | None, typer.Option(help="What links start with, behind a proxy.")] = None,
    demo: Annotated[bool | None, typer.Option(help="Load the demo hospital into an empty database.")] = None,
) -> None:
    """Start the server."""
    from fhir_server.serve import run

    run(settings(**locals()))


COMMANDS: dict[str, Callable[..., None]] = {
    "serve": serve,
    "load": load,
    "seed": seed,
    "reindex": reindex,
    "install": package_commands.install,
    "validate": package_commands.validate,
}

for name, command in COMMANDS.items():
    app.command(name)(command)
for name, group in {**GROUPS, "audit": audit, "key": key}.items():
    app.add_typer(group, name=name)
app.add_typer(terminology_commands.group, name="terminology")
app.add_typer(package_commands.group, name="packages")
app.add_typer(tenant_commands.tenant, name="tenant")


def main() -> None:
    """The program `fhir-server`."""
    try:
        app()
    except FhirError as error:
        typer.echo(error.text, err=True)
        sys.exit(1)
