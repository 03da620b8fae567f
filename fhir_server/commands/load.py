"""The commands `load` and `seed`; what they need is imported when they run, so that others start quickly."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fhir_server.commands.options import Data, Mongo, on_database

Paths = Annotated[list[Path], typer.Argument(help="Files and folders: Bundles, NDJSON, resources, gzipped or not.")]
BaseUrl = Annotated[str, typer.Option(help="Load through the server at this URL, not into the database.")]
Workers = Annotated[int, typer.Option(min=0, max=64, help="Processes, or connections with --base-url; 0: as fits.")]
Token = Annotated[str, typer.Option(envvar="FHIR_TOKEN", help="Bearer token for --base-url.")]
Again = Annotated[bool, typer.Option("--again", help="Send also what was loaded before.")]
Patients = Annotated[int, typer.Option(min=1, help="How many patients.")]
RandomSeed = Annotated[int, typer.Option(min=0, help="Another number makes another hospital, under other ids.")]


def load(
    paths: Paths,
    base_url: BaseUrl = "",
    mongo: Mongo = None,
    data: Data = None,
    workers: Workers = 0,
    token: Token = "",
    again: Again = False,
) -> None:
    """Load Bundles, NDJSON and single resources; what was loaded before is not loaded twice."""
    from fhir_server.loading.command import Way, finish, load_files

    finish(load_files(paths, Way(on_database(mongo, data, base_url), base_url, workers, token), again=again))


def seed(
    patients: Patients = 40,
    random_seed: RandomSeed = 1,
    base_url: BaseUrl = "",
    mongo: Mongo = None,
    data: Data = None,
    workers: Workers = 0,
    token: Token = "",
) -> None:
    """Make a synthetic hospital; the same numbers make the same one, and a second run changes nothing."""
    from fhir_server.loading.command import Way, finish, seed_hospital

    finish(seed_hospital(patients, random_seed, Way(on_database(mongo, data, base_url), base_url, workers, token)))
