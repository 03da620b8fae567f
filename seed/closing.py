"""What is written when every chart is: free slots, the group of patients, and the quality measure's report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from seed.elements import SITE, Json, hl7, period, ref
from seed.hospital import OPEN_DAYS
from seed.site import Site, slot_starts
from seed.visits import slot_elements

QUIET_HOUR = 9  # the hour whose free slots are offered: enough to book from, few enough to load quickly


@dataclass(slots=True)
class Tally:
    """Counts over all charts: who has hypertension, who of them was measured, and whose last pressure is below 140."""

    patients: list[str] = field(default_factory=list)
    hypertensive: int = 0
    measured: int = 0
    controlled: int = 0

    def count(self, resources: list[Json]) -> None:
        """Take one patient's resources in."""
        self.patients += [row["id"] for row in resources if row["resourceType"] == "Patient" and row["active"]]
        if not any(_has_code(row, "I10") for row in resources if row["resourceType"] == "Condition"):
            return
        pressures = [row["component"][0]["valueQuantity"]["value"] for row in resources if _has_code(row, "85354-9")]
        self.hypertensive += 1
        self.measured += bool(pressures)
        self.controlled += bool(pressures) and pressures[-1] < 140


def _has_code(row: Json, code: str) -> bool:
    return any(coding["code"] == code for coding in row.get("code", {}).get("coding", ()))


def closing(site: Site, tally: Tally) -> list[Json]:
    """The closing resources, in dependency order."""
    return [*_free_slots(site), _group(site, tally), _report(site, tally)]


def _free_slots(site: Site) -> Iterator[Json]:
    for doctor in site.doctors:
        schedule = site.ref("Schedule", f"schedule-{doctor.key}")
        for start in slot_starts(site.as_of.date(), OPEN_DAYS):
            if (doctor.key, start) not in site.booked and start.hour == QUIET_HOUR:
                yield _slot(site, doctor.key, schedule, start)


def _slot(site: Site, key: str, schedule: Json, start: datetime) -> Json:
    slot_id = f"{site.tag}slot-{key}-{start:%Y%m%d-%H%M}"
    return {"resourceType": "Slot", "id": slot_id, **slot_elements(schedule, start, "free")}


def _group(site: Site, tally: Tally) -> Json:
    return {
        "resourceType": "Group",
        "id": site.tag + "all-patients",
        "active": True,
        "type": "person",
        "actual": True,
        "name": "All patients of the hospital",
        "quantity": len(tally.patients),
        "managingEntity": site.ref("Organization", "hospital"),
        "member": [{"entity": ref(f"Patient/{patient}")} for patient in tally.patients],
    }


def _report(site: Site, tally: Tally) -> Json:
    counts = zip(
        ("initial-population", "denominator", "numerator"),
        (tally.hypertensive, tally.measured, tally.controlled),
        strict=True,
    )
    return {
        "resourceType": "MeasureReport",
        "id": site.tag + "pressure-control-report",
        "status": "complete",
        "type": "summary",
        "measure": f"{SITE}Measure/{site.tag}pressure-control",
        "date": site.as_of,
        "reporter": site.ref("Organization", "hospital"),
        "period": period(site.as_of.date().replace(month=1, day=1), site.as_of.date()),
        "improvementNotation": hl7("measure-improvement-notation", "increase"),
        "group": [
            {
                "population": [{"code": hl7("measure-population", code), "count": count} for code, count in counts],
                **_score(tally),
            }
        ],
    }


def _score(tally: Tally) -> Json:
    if not tally.measured:
        return {}
    score = round(tally.controlled / tally.measured, 3)
    return {"measureScore": {"value": score, "system": "http://unitsofmeasure.org", "code": "1"}}
