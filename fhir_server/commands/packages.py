"""The commands `install`, `packages` and `validate`; what they need is imported when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fhir_server.commands.load import Token
from fhir_server.commands.options import Data, Mongo, on_database

BaseUrl = Annotated[str, typer.Option(help="Do it through the server at this URL, not in the database.")]
Packages = Annotated[list[Path], typer.Argument(help="Package files (.tgz); dependencies beside them come along.")]
Examples = Annotated[bool, typer.Option("--examples", help="Load the examples too.")]
Name = Annotated[str, typer.Argument(help="The package: NAME, or NAME#VERSION where there are several.")]
Paths = Annotated[list[Path], typer.Argument(help="Files and folders: resources in JSON or XML, Bundles, NDJSON.")]
Profile = Annotated[list[str] | None, typer.Option(help="A profile that every resource must fit; may be repeated.")]
Guides = Annotated[list[Path] | None, typer.Option("--package", help="Check against this package, without a database.")]

group = typer.Typer(no_args_is_help=True, help="Implementation guides that are installed.")


def install(
    packages: Packages,
    examples: Examples = False,
    base_url: BaseUrl = "",
    mongo: Mongo = None,
    data: Data = None,
    token: Token = "",
) -> None:
    """Install implementation guides from package files, offline; a second time changes nothing."""
    from fhir_server.packages.command import ended, install_files

    ended(install_files(packages, on_database(mongo, data, base_url), base_url, token, examples))


@group.command("list")
def show(base_url: BaseUrl = "", mongo: Mongo = None, data: Data = None, token: Token = "") -> None:
    """List the packages and what they miss."""
    from fhir_server.packages.command import ended, list_packages

    ended(list_packages(on_database(mongo, data, base_url), base_url, token))


@group.command("remove")
def remove(name: Name, base_url: BaseUrl = "", mongo: Mongo = None, data: Data = None, token: Token = "") -> None:
    """Remove a package: its resources, but for those that are shared or were changed."""
    from fhir_server.packages.command import ended, remove_package

    ended(remove_package(name, on_database(mongo, data, base_url), base_url, token))


def validate(
    paths: Paths,
    profile: Profile = None,
    package: Guides = None,
    mongo: Mongo = None,
    data: Data = None,
) -> None:
    """Check files against R4 and profiles; exit code 1 when one has an error. Nothing is stored."""
    from fhir_server.packages.checks import check_files
    from fhir_server.packages.command import ended

    ended(check_files(paths, profile or [], package or [], on_database(mongo, data) if mongo or data else None))
