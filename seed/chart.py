"""One patient's chart while it is being written."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from random import Random
from typing import Any

from seed.codes import Disease
from seed.elements import Json, present, ref
from seed.people import Person
from seed.site import Doctor, Site


@dataclass(slots=True)
class Chart:
    """The patient `number`, what is known about them, and the resources written so far, in dependency order.

    Ids are `p00007` for the patient and `p00007-observation-3` for the rest, so that an example can name them.
    """

    site: Site
    number: int
    rng: Random
    who: Person
    home: Doctor
    chronic: tuple[Disease, ...] = ()
    died: date | None = None
    resources: list[Json] = field(default_factory=list)
    known: dict[str, Json] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def id(self) -> str:
        """The Patient's id."""
        return f"{self.site.tag}p{self.number:05d}"

    @property
    def patient(self) -> Json:
        """A Reference to the Patient."""
        return ref(f"Patient/{self.id}")

    def add(self, resource_type: str, **elements: Any) -> Json:
        """Write a resource and return a Reference to it; a trailing underscore spares Python's own words."""
        self.counts[resource_type] += 1
        resource_id = f"{self.id}-{resource_type.lower()}-{self.counts[resource_type]}"
        if resource_type == "Patient":
            resource_id = self.id
        body = present({name.rstrip("_"): value for name, value in elements.items()})
        self.resources.append({"resourceType": resource_type, "id": resource_id, **body})
        return ref(f"{resource_type}/{resource_id}")

    def chance(self, probability: float) -> bool:
        """Whether something happens that does so with the probability."""
        return self.rng.random() < probability

    def age(self, day: date) -> int:
        """The patient's age in years on the day."""
        birth = self.who.birth
        return day.year - birth.year - ((day.month, day.day) < (birth.month, birth.day))


@dataclass(frozen=True, slots=True)
class Visit:
    """One encounter: who saw the patient for what, from when to when."""

    encounter: Json
    doctor: Doctor
    disease: Disease
    condition: Json
    start: datetime
    end: datetime

    @property
    def seen(self) -> datetime:
        """An instant a few minutes into the visit, when most is written down."""
        return self.start + timedelta(minutes=10)


def practitioner(chart: Chart, doctor: Doctor) -> Json:
    """A Reference to the doctor with the name."""
    return chart.site.ref("Practitioner", doctor.key, doctor.who.display)
