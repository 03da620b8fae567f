"""The command `terminology`: loads release files of code systems, lists what is there."""

from __future__ import annotations

import asyncio
import gc
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from fhir_server.commands.options import Data, Mongo, on_database
from profiles.outcome import FhirError

if TYPE_CHECKING:
    from fhir_server.store.term_files import TermFiles

group = typer.Typer(no_args_is_help=True, help="Code systems: load release files, list what is there.")

Paths = Annotated[list[Path], typer.Argument(help="Files, folders or .zip archives of the release.")]
Format = Annotated[str, typer.Argument(help="icd-10-cm, icd-10-pcs, icd-10, loinc, snomed, rxnorm, ndc or csv.")]
Release = Annotated[str | None, typer.Option(help="Version of the release, where the files do not say it.")]
Url = Annotated[str | None, typer.Option(help="Url of the code system, for csv.")]


@group.command("load")
def load(
    format: Format,
    paths: Paths,
    release: Release = None,
    url: Url = None,
    mongo: Mongo = None,
    data: Data = None,
) -> None:
    """Load a release; versions stay side by side, the same version is replaced."""
    try:
        asyncio.run(_load(format, paths, release, url, mongo, data))
    except FhirError as error:
        typer.echo(error.text, err=True)
        raise typer.Exit(2) from None


async def _load(
    format: str, paths: list[Path], release: str | None, url: str | None, mongo: str | None, data: Path | None
) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from terminology.load import read_release

    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()) as bars:
        read = bars.add_task("concepts read", total=None)
        tell = partial(bars.update, read)
        # The rows stay alive until they are packed: 18,000 concepts a second with the collector, 28,000 without.
        gc.disable()
        about, table = read_release(format, files_of(paths), release, url, lambda rows: tell(completed=rows))
        gc.enable()
        async with _tables(mongo, data) as tables:
            sent = bars.add_task("bytes stored", total=len(table))
            await tables.keep(about, table, lambda size: bars.update(sent, completed=size))
    typer.echo(f"{about['url']} version {about['version']} is loaded.")


@group.command("list")
def listed(mongo: Mongo = None, data: Data = None) -> None:
    """Print url, version and size of every release that was loaded."""

    async def rows() -> list[dict[str, Any]]:
        async with _tables(mongo, data) as tables:
            return await tables.every()

    for row in sorted(asyncio.run(rows()), key=lambda row: (row["about"]["url"], row["about"].get("version", ""))):
        typer.echo(f"{row['about']['url']}  {row['about'].get('version', '')}  {row['size']:,} bytes")


@asynccontextmanager
async def _tables(mongo: str | None, data: Path | None) -> AsyncIterator[TermFiles]:
    """The tables of the database."""
    from fhir_server.opening import embedded_url
    from fhir_server.store import open_store
    from fhir_server.store.term_files import TermFiles

    async with AsyncExitStack() as stack:
        config = on_database(mongo, data)
        url = config.mongo or await embedded_url(config, stack)
        store = await open_store(url, config.database)
        stack.push_async_callback(store.close)
        yield TermFiles(store.driver)


def files_of(paths: list[Path]) -> dict[str, Callable[[], IO[bytes]]]:
    """Every file below the paths and inside archives, by its name."""
    found: dict[str, Callable[[], IO[bytes]]] = {}
    for path in paths:
        if not path.exists():
            raise FhirError("not-found", f"{path} does not exist")
        found.update(_below(path))
    return found


def _below(path: Path) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    if path.is_dir():
        for inner in sorted(path.rglob("*")):
            if inner.is_file():
                yield str(inner), partial(_opened, inner)
    elif zipfile.is_zipfile(path):
        archive = zipfile.ZipFile(path)
        for name in archive.namelist():
            if not name.endswith("/"):
                yield name, partial(archive.open, name)
    else:
        yield str(path), partial(_opened, path)


def _opened(path: Path) -> IO[bytes]:
    return path.open("rb")
