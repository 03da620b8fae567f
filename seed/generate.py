"""The generator: a hospital, its patients one by one, and what closes the books."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from random import Random

from seed.billing import bill
from seed.chart import Chart, Visit
from seed.closing import Tally, closing
from seed.codes import ACUTE, CHRONIC, Disease
from seed.elements import Json
from seed.hospital import hospital
from seed.models import build_all
from seed.papers import discharge_letter, fill_in, flag_risk, follow_up, problem_list
from seed.people import person
from seed.registration import register
from seed.results import laboratory
from seed.site import Doctor, Site, open_site
from seed.treatment import immunize, operate, plan, prescribe
from seed.visits import book, visit

AS_OF = datetime(2026, 10, 1, 14, 0, tzinfo=UTC)
DEFAULT_SEED = 1
YEARS = 4


def generate(patients: int, random_seed: int = DEFAULT_SEED, as_of: datetime = AS_OF) -> Iterator[list[Json]]:
    """The synthetic hospital as groups of resources: its own, one group a patient, and the closing group.

    A group refers only to itself and to the groups before it, so each can be one transaction. The same
    arguments give the same resources, and more patients begin with the same ones. `as_of` is the day the
    hospital is seen at: visits lie in the years before, open appointments after it.
    """
    site = open_site(Random(f"{random_seed}/site"), tag(random_seed), as_of)  # noqa: S311 - made-up people, no secrets
    tally = Tally()
    yield build_all(hospital(Random(f"{random_seed}/hospital"), site))  # noqa: S311
    for number in range(1, patients + 1):
        resources = build_all(chart(site, number, Random(f"{random_seed}/{number}")))  # noqa: S311
        tally.count(resources)
        yield resources
    yield build_all(closing(site, tally))


def tag(random_seed: int) -> str:
    """What the ids of the seed's hospital begin with; nothing for the default one."""
    return "" if random_seed == DEFAULT_SEED else f"s{random_seed}-"


def chart(site: Site, number: int, rng: Random) -> list[Json]:
    """Everything about one patient, in dependency order."""
    today = site.as_of.date()
    who = person(rng, (today.year - 92, today.year - 2))
    written = Chart(site, number, rng, who, _home(site, rng, today.year - who.birth.year))
    first = max(today - timedelta(days=365 * YEARS + rng.randint(-300, 300)), who.birth + timedelta(days=40))
    written.chronic = _chronic(written, today)
    written.died = _death(written, first, today)
    last = written.died or today
    register(written, first)
    for number_of_visit, (day, disease) in enumerate(_agenda(written, first, last)):
        care(written, visit(written, disease, day), number_of_visit)
    immunize(written, first, last)
    _close(written, today)
    return written.resources


def _home(site: Site, rng: Random, age: int) -> Doctor:
    return site.doctor(rng, "pediatrics" if age < 16 else "family")


def _chronic(chart: Chart, today: date) -> tuple[Disease, ...]:
    possible = [disease for disease in CHRONIC if disease.youngest <= chart.age(today)]
    count = min(len(possible), chart.rng.choice((0, 1, 1, 2)) + (chart.age(today) > 60))
    return tuple(chart.rng.sample(possible, count))


def _death(chart: Chart, first: date, today: date) -> date | None:
    if chart.age(today) < 75 or not chart.chance(0.3):
        return None
    return max(first + timedelta(days=400), today - timedelta(days=chart.rng.randint(20, 500)))


def _agenda(chart: Chart, first: date, last: date) -> list[tuple[date, Disease]]:
    """When the patient comes and for what: the chronic in turn, something acute now and then."""
    span = max((last - first).days - 30, 30)
    days = sorted(first + timedelta(days=chart.rng.randint(0, span)) for _ in range(chart.rng.randint(2, 4)))
    acute = [disease for disease in ACUTE if disease.youngest <= chart.age(first)]
    chronic = chart.chronic
    return [
        (day, chronic[turn % len(chronic)] if chronic and chart.chance(0.7) else chart.rng.choice(acute))
        for turn, day in enumerate(days)
    ]


def care(chart: Chart, visit: Visit, number: int) -> None:
    """Write what follows from the visit; the first one also brings the forms and the plan."""
    if number == 0:
        fill_in(chart, visit)
    if visit.disease in chart.chronic and chart.chance(0.4):
        plan(chart, visit)
    laboratory(chart, visit, chart.rng.choice(visit.disease.panels))
    for drug in visit.disease.drugs:
        prescribe(chart, visit, drug)
    if chart.chance(0.5):
        operate(chart, visit)
    if chart.chance(0.4):
        discharge_letter(chart, visit)
    bill(chart, visit)
    if number == 0 and chart.chance(0.5):
        follow_up(chart, visit)


def _close(chart: Chart, today: date) -> None:
    """The problem list, the flag, and the next appointment of the living."""
    as_of = chart.site.as_of
    problem_list(chart, as_of)
    if chart.age(today) >= 75 and not chart.died:
        flag_risk(chart, as_of)
    if not chart.died and chart.chance(0.5):
        start = chart.site.book(chart.home, today + timedelta(days=chart.rng.randint(1, 12)))
        book(chart, chart.home, start, "booked")
