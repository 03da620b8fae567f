"""The command line: every option is also an environment variable FHIR_NAME (DESIGN.md §7)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from fhir_server import package_commands, tenant_commands, terminology_commands
from fhir_server.auth_commands import GROUPS
from fhir_server.config import Config
from fhir_server.load import load, seed
from fhir_server.reindexing import reindex
from profiles.outcome import FhirError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="A standards-first FHIR R4 server on MongoDB.")


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
for name, group in GROUPS.items():
    app.add_typer(group, name=name)
app.add_typer(terminology_commands.group, name="terminology")
app.add_typer(package_commands.group, name="packages")
app.add_typer(tenant_commands.tenant, name="tenant")


def settings(**given: Any) -> Config:
    """The environment with what the command line says; a fault ends the program in a sentence."""
    try:
        return Config(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        for fault in error.errors():
            place = "_".join(map(str, fault["loc"]))
            text = fault["msg"].removeprefix("Value error, ")
            typer.echo(f"FHIR_{place.upper()}: {text}" if place else text, err=True)
        raise typer.Exit(2) from None


def main() -> None:
    """The program `fhir-server`."""
    try:
        app()
    except FhirError as error:
        typer.echo(error.text, err=True)
        sys.exit(1)
