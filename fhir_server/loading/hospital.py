"""Loading the synthetic hospital through the public interactions: one transaction a patient."""

from __future__ import annotations

from itertools import islice

from fhir_server.loading.run import Load, Report, Target
from fhir_server.loading.units import Line, Unit, batch, whole
from profiles.json import encode
from seed import generate
from seed.elements import Json
from seed.generate import DEFAULT_SEED

PATIENTS = 40


async def load_hospital(
    target: Target, patients: int = PATIENTS, random_seed: int = DEFAULT_SEED, width: int = 3
) -> Report:
    """Send the hospital to the target: its own resources, then the patients in parallel, then what closes the books."""
    loading = Load(target, None, width, lambda report: None)
    groups = generate(patients, random_seed)
    for count in (1, patients, 1):
        await loading.send(_unit(group) for group in islice(groups, count))
    loading.report.fault(*(fault for _, faults in loading.failed for fault in faults))
    return loading.report


def _unit(resources: list[Json]) -> Unit:
    """A transaction that puts every resource by its id."""
    lines = [Line(0, "PUT", f"{row['resourceType']}/{row['id']}", encode(row)) for row in resources]
    return whole(f"the group of {lines[0].url}", batch(lines, "transaction"), len(lines), atomic=True)
