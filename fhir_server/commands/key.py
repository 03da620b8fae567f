"""The command `key`: a new master key, and everything that the old one sealed."""

from __future__ import annotations

import asyncio
import getpass
from contextlib import AsyncExitStack

import typer

from fhir_server.commands.options import Data, Mongo
from fhir_server.commands.users import Place
from fhir_server.config import Config

key = typer.Typer(no_args_is_help=True, help="The master key, which seals secrets and page links.")

FILED = "There is a new key in {path}, beside the old one. Restart the server, then run `fhir-server key rotate`."
CONFIGURED = (
    "{new}\nSet FHIR_KEY to this and FHIR_OLD_KEY to the key of now, restart every process, "
    "then run `fhir-server key rotate` with both."
)


@key.command("new")
def new(data: Data = None) -> None:
    """Make a new key; the old one still opens what it sealed."""
    from fhir_server.keyring import FILE, fresh

    config = Place(None, data).config()
    made = fresh(config)
    typer.echo(CONFIGURED.format(new=made) if config.key else FILED.format(path=config.data / FILE))


@key.command("rotate")
def rotate(mongo: Mongo = None, data: Data = None) -> None:
    """Seal everything with the new key, of all tenants; safe to repeat after it was cut off."""
    count = asyncio.run(rotated(Place(mongo, data, tenant="default").config()))
    typer.echo(f"{count} secrets were sealed anew. The old key opens nothing any more: FHIR_OLD_KEY may go.")


async def rotated(config: Config) -> int:
    """How many secrets were sealed anew."""
    from fhir_server.opening import open_context
    from fhir_server.rotation import rotate

    async with AsyncExitStack() as stack:
        return await rotate(config, await open_context(config, stack), getpass.getuser())
