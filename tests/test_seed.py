"""The synthetic hospital: deterministic, complete in itself, plausible, and quick to make in bulk."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

import pytest

from profiles.validate import check
from seed import AS_OF, generate, mix

PATIENTS = 25


@pytest.fixture(scope="module")
def groups() -> list[list[dict[str, Any]]]:
    """A small hospital, in its groups."""
    return list(generate(PATIENTS))


@pytest.fixture(scope="module")
def resources(groups: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """All of its resources."""
    return [row for group in groups for row in group]


def key(resource: dict[str, Any]) -> str:
    """The resource as a reference names it."""
    return f"{resource['resourceType']}/{resource['id']}"


def references(value: Any) -> Iterator[str]:
    """Every literal reference inside a resource."""
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for child in value.values():
            yield from references(child)
    elif isinstance(value, list):
        for child in value:
            yield from references(child)


def of_type(resources: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The resources of one type."""
    return [row for row in resources if row["resourceType"] == name]


def test_the_same_seed_makes_the_same_hospital(groups: list[list[dict[str, Any]]]) -> None:
    """Two runs with one seed are equal, and a bigger hospital begins with the smaller one."""
    again = list(generate(5))
    assert again[:-1] == groups[:6]
    assert list(generate(5)) == again


def test_another_seed_makes_other_patients_under_other_ids(resources: list[dict[str, Any]]) -> None:
    """Hospitals of two seeds can live in one database."""
    other = [row for group in generate(3, random_seed=7) for row in group]
    assert not {key(row) for row in other} & {key(row) for row in resources}
    assert "Patient/s7-p00001" in {key(row) for row in other}


def test_ids_are_unique_and_named_as_the_readme_names_them(resources: list[dict[str, Any]]) -> None:
    """No id is used twice, and patients are p00001 and on."""
    counts = Counter(key(row) for row in resources)
    assert max(counts.values()) == 1
    assert "Patient/p00001" in counts


def test_every_resource_is_valid_r4(resources: list[dict[str, Any]]) -> None:
    """The definitions of 4.0.1 accept what the R4B models built."""
    assert {key(row): issues for row in resources if (issues := check(row))} == {}


def test_what_is_stamped_is_valid_too() -> None:
    """So do they accept the benchmark's resources."""
    assert [issues for row in mix(4000) if (issues := check(row))] == []


def test_references_lead_to_what_was_written_before(groups: list[list[dict[str, Any]]]) -> None:
    """A group refers to itself and earlier groups only, so that it can be one transaction."""
    known: set[str] = set()
    for group in groups:
        known |= {key(row) for row in group}
        dangling = {target for row in group for target in references(row)} - known
        assert not dangling


def test_nobody_is_booked_twice(resources: list[dict[str, Any]]) -> None:
    """No practitioner has two appointments at one time, no slot two appointments."""
    booked = Counter(
        (participant["actor"]["reference"], row["start"])
        for row in of_type(resources, "Appointment")
        for participant in row["participant"]
        if participant["actor"]["reference"].startswith("Practitioner/")
    )
    slots = Counter(row["slot"][0]["reference"] for row in of_type(resources, "Appointment"))
    assert max(booked.values()) == 1
    assert max(slots.values()) == 1
    starts = Counter((row["schedule"]["reference"], row["start"]) for row in of_type(resources, "Slot"))
    assert max(starts.values()) == 1


def test_free_slots_lie_ahead_and_busy_ones_are_booked(resources: list[dict[str, Any]]) -> None:
    """A client can book: free slots begin on the day the hospital is seen at or later."""
    slots = of_type(resources, "Slot")
    free = [row for row in slots if row["status"] == "free"]
    assert free
    assert all(datetime.fromisoformat(row["start"]).date() >= AS_OF.date() for row in free)
    assert len(slots) - len(free) == len(of_type(resources, "Appointment"))


def test_charts_are_rich(groups: list[list[dict[str, Any]]], resources: list[dict[str, Any]]) -> None:
    """A patient has some 40 to 120 resources over several years, the hospital more than 40 types."""
    sizes = sorted(len(group) for group in groups[1:-1])
    assert sizes[0] >= 40
    assert 60 <= sizes[len(sizes) // 2] <= 100
    assert len({row["resourceType"] for row in resources}) > 40


def test_places_form_one_tree(resources: list[dict[str, Any]]) -> None:
    """Every bed is in a room in a ward in the building."""
    parents = {key(row): row.get("partOf", {}).get("reference") for row in of_type(resources, "Location")}
    beds = [place for place in parents if "-bed-" in place]
    assert beds
    for bed in beds:
        ward = parents[str(parents[bed])]
        assert parents[str(ward)] == "Location/building"


def test_names_come_in_several_scripts(resources: list[dict[str, Any]]) -> None:
    """There are accents and letters beyond Latin, each with a Latin form beside it."""
    names = [row["name"] for row in of_type(resources, "Patient")]
    official = "".join(name[0]["text"] for name in names)
    assert any("\u00c0" <= letter <= "\u017f" for letter in official)
    beyond = [
        name
        for name in names
        if any((letter > "\u0370" and letter < "\u1e00") or letter > "\u2fff" for letter in name[0]["text"])
    ]
    assert beyond
    assert all(name[1]["text"].isascii() or max(name[1]["text"]) < "\u0370" for name in beyond)


def test_results_say_what_their_range_says(resources: list[dict[str, Any]]) -> None:
    """The interpretation of a laboratory result follows from value and reference range."""
    results = [row for row in of_type(resources, "Observation") if "referenceRange" in row]
    assert results
    for row in results:
        value, bounds = row["valueQuantity"]["value"], row["referenceRange"][0]
        low = "low" in bounds and value < bounds["low"]["value"]
        high = "high" in bounds and value > bounds["high"]["value"]
        assert row["interpretation"][0]["coding"][0]["code"] == ("L" if low else "H" if high else "N")


def test_the_dead_have_no_open_appointments(resources: list[dict[str, Any]]) -> None:
    """Nobody who died is booked for later."""
    dead = {key(row) for row in of_type(resources, "Patient") if "deceasedDateTime" in row}
    assert dead
    for row in of_type(resources, "Appointment"):
        if row["status"] == "booked":
            assert row["participant"][0]["actor"]["reference"] not in dead


def test_mix_is_the_same_each_time_and_never_repeats_an_id() -> None:
    """The benchmark's resources are deterministic, distinct, and refer to each other."""
    rows = list(mix(6000))
    assert rows == list(mix(6000))
    assert len({key(row) for row in rows}) == 6000
    known = {key(row) for row in rows}
    assert {target for row in rows[:5800] for target in references(row)} <= known


def test_mix_is_fast() -> None:
    """Ten thousand resources take well under a second of CPU once the templates are built."""
    rows = mix(50_000)
    next(islice(rows, 500, 501))
    started = time.process_time()
    next(islice(rows, 10_000, 10_001))
    assert time.process_time() - started < 1.0
