"""The laws of search on generated resources (docs/security.md): whatever the data, these must hold."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.store import New, Store
from fhir_server.store.find.page import find
from profiles.json import encode
from search.entries import compartment, entries
from search.params import Registry
from search.query import parse
from tests.searching import World

REGISTRY = Registry.r4()

NAMES = ("Ann", "ann", "Ánn", "Bo", "Bob", "Cy")
GENDERS = ("male", "female", "other")
DATES = ("2019", "2020-01", "2020-01-31", "2020-02-01", "2020-02-01T10:00:00Z", "2020-02-01T10:00:00.500+05:00")
CODES = (("http://a", "x"), ("http://a", "y"), ("http://b", "x"), ("", "x"))


@st.composite
def patients(draw: st.DrawFn) -> dict[str, Any]:
    found: dict[str, Any] = {"resourceType": "Patient"}
    if draw(st.booleans()):
        found["name"] = [{"family": n} for n in draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=2))]
    if draw(st.booleans()):
        found["gender"] = draw(st.sampled_from(GENDERS))
    if draw(st.booleans()):
        found["birthDate"] = draw(st.sampled_from(DATES[:4]))
    return found


@st.composite
def observations(draw: st.DrawFn) -> dict[str, Any]:
    found: dict[str, Any] = {"resourceType": "Observation", "status": draw(st.sampled_from(("final", "amended")))}
    codings = draw(st.lists(st.sampled_from(CODES), max_size=2))
    found["code"] = (
        {"coding": [{"code": c, **({"system": s} if s else {})} for s, c in codings]} if codings else {"text": "t"}
    )
    if draw(st.booleans()):
        found["subject"] = {"reference": f"Patient/{draw(st.integers(0, 5))}"}
    how = draw(st.integers(0, 2))
    if how == 1:
        found["effectiveDateTime"] = draw(st.sampled_from(DATES))
    elif how == 2:
        found["effectivePeriod"] = {"start": draw(st.sampled_from(DATES[:3])), "end": draw(st.sampled_from(DATES[3:]))}
    if draw(st.booleans()):
        found["valueQuantity"] = {"value": draw(st.integers(-3, 3))}
    return found


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Up to six patients and ten observations."""
    people = draw(st.lists(patients(), max_size=6))
    seen = draw(st.lists(observations(), max_size=10))
    rows = [
        {**r, "id": str(n), "meta": {"lastUpdated": "2025-01-01T00:00:00Z"}}
        for kind in (people, seen)
        for n, r in enumerate(kind)
    ]
    return World(rows, {})


CRITERIA = st.sampled_from(
    [
        *(("date", f"{prefix}{d}") for d in DATES for prefix in ("", "ne", "gt", "lt", "ge", "le", "sa", "eb")),
        *(("code", c) for c in ("x", "http://a|x", "|x", "http://a|", "y,http://b|x")),
        *(("value-quantity", q) for q in ("0", "gt1", "le-1", "ne2")),
        ("status", "final"),
        ("subject", "Patient/1"),
        ("patient", "2,3"),
        ("date:missing", "true"),
        ("code:missing", "false"),
        ("patient.gender", "male"),
        ("subject:Patient.family", "ann"),
        ("_filter", "status eq final and value-quantity gt 0"),
    ]
)
PERSONAL = st.sampled_from(
    [("family", "ann"), ("family:exact", "Ann"), ("family:contains", "o"), ("gender", "male"), ("birthdate", "ge2020")]
)
SLOWLY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def found(world: World, kind: str, *pairs: tuple[str, str]) -> set[str]:
    query = parse(kind, [(n, v.replace("+", "%2B") if "%" in v else v) for n, v in pairs], REGISTRY)
    return set(world.find(query.clauses))


@SLOWLY
@given(worlds(), CRITERIA, CRITERIA)
def test_repetition_is_intersection(world: World, a: tuple[str, str], b: tuple[str, str]) -> None:
    """Two criteria find what both find, so a further one never adds anything."""
    assert found(world, "Observation", a, b) == found(world, "Observation", a) & found(world, "Observation", b)


@SLOWLY
@given(worlds(), st.sampled_from(["x", "y", "http://a|x", "|x"]), st.sampled_from(["y", "http://b|x", "http://a|"]))
def test_or_is_union(world: World, a: str, b: str) -> None:
    """Values between commas find what any of them finds."""
    joined = found(world, "Observation", ("code", f"{a},{b}"))
    assert joined == found(world, "Observation", ("code", a)) | found(world, "Observation", ("code", b))


@SLOWLY
@given(worlds(), st.sampled_from(["x", "http://a|x", "|x", "http://a|", "x,y"]))
def test_not_is_the_rest(world: World, code: str) -> None:
    """`x` and `:not x` cover everything and share nothing; what is missing is never `x`."""
    yes, no = found(world, "Observation", ("code", code)), found(world, "Observation", ("code:not", code))
    assert yes | no == found(world, "Observation")
    assert not yes & no
    assert found(world, "Observation", ("code:missing", "true")) <= no


@SLOWLY
@given(worlds(), st.sampled_from(DATES))
def test_prefixes_agree(world: World, day: str) -> None:
    """eq and ne part all dated ones; ge is eq or gt, le is eq or lt; sa lies in gt, eb in lt; sa and eb never meet."""
    by = {p: found(world, "Observation", ("date", p + day)) for p in ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb")}
    assert by["eq"] | by["ne"] == found(world, "Observation", ("date:missing", "false"))
    assert not by["eq"] & by["ne"]
    assert by["ge"] == by["eq"] | by["gt"]
    assert by["le"] == by["eq"] | by["lt"]
    assert by["sa"] <= by["gt"]
    assert by["eb"] <= by["lt"]
    assert not by["sa"] & by["eb"]


@SLOWLY
@given(worlds(), PERSONAL)
def test_a_chain_is_a_join(world: World, inner: tuple[str, str]) -> None:
    """A chain finds what refers to the patients that the rest finds; `_has` is the way back."""
    people = found(world, "Patient", inner)
    joined = {o for p in people for o in found(world, "Observation", ("subject", p))}
    assert found(world, "Observation", (f"subject:Patient.{inner[0]}", inner[1])) == joined


@SLOWLY
@given(worlds(), CRITERIA)
def test_has_is_the_chain_backward(world: World, inner: tuple[str, str]) -> None:
    """The patients that some found observation refers to."""
    seen = found(world, "Observation", inner)
    subjects = {r["subject"]["reference"] for r in world.resources if World.name(r) in seen and "subject" in r}
    there = found(world, "Patient")
    assert found(world, "Patient", (f"_has:Observation:patient:{inner[0]}", inner[1])) == subjects & there


@SLOWLY
@given(worlds(), PERSONAL)
def test_exact_is_narrower(world: World, inner: tuple[str, str]) -> None:
    """`:exact` lies in the plain search, which lies in `:contains`."""
    for name in NAMES:
        plain = found(world, "Patient", ("family", name))
        assert found(world, "Patient", ("family:exact", name)) <= plain
        assert plain <= found(world, "Patient", ("family:contains", name))


async def _filled(store: Store, world: World) -> None:
    at = datetime(2025, 1, 1, tzinfo=UTC)
    rows = []
    for n, r in enumerate(world.resources):
        new = New(
            r["resourceType"],
            r["id"],
            1,
            at + timedelta(seconds=n // 2),
            encode(r),
            entries(r, REGISTRY),
            compartment(r),
        )
        rows.append(store.create(new))
    await asyncio.gather(*rows)


async def _pages(store: Store, kind: str, pairs: list[tuple[str, str]]) -> tuple[list[str], int | None]:
    query, names, cursor = parse(kind, pairs, REGISTRY), [], None
    while True:
        page = await find(store, query, registry=REGISTRY, cursor=cursor)
        names += [f"{m.type}/{m.id}" for m in page.matches]
        cursor = page.next
        if cursor is None:
            return names, page.total


SORTS = ("", "date", "-date", "code,-date", "-value-quantity", "subject,status", "-_lastUpdated", "status,-code,_id")
BIG = World(
    [
        {
            "resourceType": "Observation",
            "id": f"{n:03}",
            "status": ("final", "amended")[n % 2],
            "code": {"coding": [{"system": s, "code": c} for s, c in CODES[: n % 4] if s]},
            "subject": {"reference": f"Patient/{n % 7}"},
            "meta": {"lastUpdated": "2025-01-01T00:00:00Z"},
            **({"effectiveDateTime": DATES[n % 6]} if n % 5 else {}),
            **({"valueQuantity": {"value": n * 37 % 11}} if n % 3 else {}),
        }
        for n in range(60)
    ],
    {},
)


@pytest.mark.anyio
async def test_pages_joined_are_the_whole(store: Store) -> None:
    """For every order: a permutation of the unsorted result, page after page, with the total that a count says."""
    await _filled(store, BIG)
    for criteria in ([], [("status", "final")], [("date", "ge2020")], [("code:not", "y")], [("code:text", "t")]):
        expected = sorted(found(BIG, "Observation", *criteria))
        count = await find(store, parse("Observation", [*criteria, ("_summary", "count")], REGISTRY), registry=REGISTRY)
        assert count.total == len(expected)
        for sort in SORTS:
            order = [("_sort", sort)] if sort else []
            names, total = await _pages(store, "Observation", [*criteria, *order, ("_count", "7")])
            whole, _ = await _pages(store, "Observation", [*criteria, *order, ("_count", "100")])
            assert names == whole
            assert sorted(names) == expected
            assert total in (len(expected), None)
