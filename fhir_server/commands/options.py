"""What the commands have in common: the settings, from the environment and the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import typer
from pydantic import ValidationError

from fhir_server.config import Config

Mongo = Annotated[str | None, typer.Option(help="URL of a MongoDB replica set; without it, the embedded one.")]
Data = Annotated[Path | None, typer.Option(help="Folder of the embedded database.", show_default=".data")]


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


def on_database(mongo: str | None, data: Path | None, base_url: str = "") -> Config:
    """The settings of a command on the default tenant's database, or through the server at `base_url`."""
    found = settings(mongo=mongo, data=data)
    if found.tenant != Config.model_fields["tenant"].default and not base_url:
        text = f"This command is about the default tenant; reach {found.tenant} with --base-url, or unset FHIR_TENANT."
        typer.echo(text, err=True)
        raise typer.Exit(2)
    return found if base_url else beside(found)


def beside(config: Config) -> Config:
    """The settings with the database of the server that runs on the data folder, where one does."""
    from fhir_server.store.owner import address

    url = None if config.mongo else address(config.data)
    return config.model_copy(update={"mongo": url}) if url else config


@contextmanager
def private(path: Path) -> Iterator[IO[bytes]]:
    """A file that its owner alone may read; what was written is on the disk at the end."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
