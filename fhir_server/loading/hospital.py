"""Loading the synthetic hospital through the public interactions: one transaction a patient."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import AsyncGenerator
from contextlib import aclosing
from multiprocessing.connection import Connection

from fhir_server.loading.run import Load, Report, Target
from fhir_server.loading.units import Line, Unit, batch, whole
from profiles.json import encode

PATIENTS = 40


async def load_hospital(target: Target, patients: int = PATIENTS, random_seed: int = 1, width: int = 3) -> Report:
    """Send the hospital to the target: its own resources, then the patients in parallel, then what closes the books."""
    loading = Load(target, None, width, lambda report: None)
    async with aclosing(_made(patients, random_seed)) as units:
        await loading.send([await anext(units)])
        for start in range(0, patients, width):
            await loading.send([await anext(units) for _ in range(min(width, patients - start))])
        await loading.send([await anext(units)])
    loading.report.fault(*(fault for _, faults in loading.failed for fault in faults))
    return loading.report


async def _made(patients: int, random_seed: int) -> AsyncGenerator[Unit, None]:
    """The groups of the hospital, made by a process of their own: the models that build them take 46 MB, which a
    server would keep, and the next group is made while one is loaded."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_make, args=(theirs, patients, random_seed), daemon=True)
    process.start()
    theirs.close()
    try:
        for _ in range(patients + 2):
            yield await asyncio.to_thread(ours.recv)
    finally:
        process.kill()
        process.join()


def _make(connection: Connection, patients: int, random_seed: int) -> None:
    from seed import generate

    for group in generate(patients, random_seed):
        lines = [Line(0, "PUT", f"{row['resourceType']}/{row['id']}", encode(row)) for row in group]
        name = f"the group of {lines[0].url}"
        connection.send(whole(name, batch(lines, "transaction"), len(lines), atomic=True))
