"""The hospital's fixed points that every chart refers to: ids, staff, wards and the calendar of appointments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from random import Random

from seed.codes import SPECIALTIES
from seed.elements import Json, ref
from seed.people import Person, person

ZONE = timezone(timedelta(hours=-6))
WARDS: tuple[tuple[str, str, int], ...] = (
    ("medicine", "Medical ward", 4),
    ("surgery", "Surgical ward", 3),
    ("intensive", "Intensive care unit", 2),
)
BEDS_PER_ROOM = 2
SLOT = timedelta(minutes=30)
OPENS, CLOSES = time(8), time(16, 30)


@dataclass(frozen=True, slots=True)
class Doctor:
    """A practitioner of the hospital: `key` is the end of the ids, such as `cardiology-1`."""

    key: str
    specialty: str
    who: Person


@dataclass(slots=True)
class Site:
    """One generated hospital; `tag` begins the ids of a hospital that is not the default one."""

    tag: str
    as_of: datetime
    doctors: tuple[Doctor, ...]
    booked: set[tuple[str, datetime]] = field(default_factory=set)

    def ref(self, resource_type: str, name: str, display: str | None = None) -> Json:
        """A Reference to one of the hospital's own resources."""
        return ref(f"{resource_type}/{self.tag}{name}", display)

    def doctor(self, rng: Random, specialty: str) -> Doctor:
        """A doctor of the specialty."""
        return rng.choice([doctor for doctor in self.doctors if doctor.specialty == specialty])

    def book(self, doctor: Doctor, wanted: date) -> datetime:
        """The first free slot of the doctor on or after the day, now taken: nobody is booked twice."""
        start = next(start for start in slot_starts(wanted) if (doctor.key, start) not in self.booked)
        self.booked.add((doctor.key, start))
        return start


def open_site(rng: Random, tag: str, as_of: datetime) -> Site:
    """A site with two doctors of each specialty and four of family medicine."""
    numbers = {specialty: 4 if specialty == "family" else 2 for specialty in SPECIALTIES}
    doctors = [
        Doctor(f"{specialty}-{number}", specialty, person(rng, (1958, 1990)))
        for specialty, count in numbers.items()
        for number in range(1, count + 1)
    ]
    return Site(tag, as_of.astimezone(ZONE), tuple(doctors))


def slot_starts(day: date, days: int = 3650) -> Iterator[datetime]:
    """The starts of the slots on the working days among so many days from the day on."""
    for offset in range(days):
        current = day + timedelta(days=offset)
        start = datetime.combine(current, OPENS, ZONE)
        while current.weekday() < 5 and start.time() < CLOSES:
            yield start
            start += SLOT
