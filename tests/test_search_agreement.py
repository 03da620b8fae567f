"""One meaning, two executors: `matches` in memory and the filter on a real mongod agree on generated resources."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.collection import Collection

from search.clauses import ALWAYS, Clause, every, some, without
from search.entries import entries
from search.filters import compile, is_seen, widened
from search.matches import matches
from search.params import Registry
from search.plan import chosen, hidden, merged
from search.query import parse

REGISTRY = Registry.r4()
BASE = "http://localhost/fhir"
AT = datetime(2025, 1, 1, tzinfo=UTC)
COUNT = 60  # resources of a world

# Words that fold, that are operators elsewhere, that stand next to each other in the order of characters.
WORDS = st.sampled_from(
    ["Ann", "ánn", "ANNE", "Bo", "B o", "Straße", "strasse", "$ne", "a|b", "a,b", ".*", "İ", "ﬁ", "~"]
)
SYSTEMS = st.sampled_from(["", "http://loinc.org", "http://a", "http://a|b", "http://unitsofmeasure.org"])
CODES = st.sampled_from(["x", "X", "y", "x|y", "1-1", "mg", "Mg"])
DAYS = st.dates(datetime(2019, 12, 30).date(), datetime(2020, 3, 2).date())
TIMES = st.datetimes(datetime(2019, 12, 31), datetime(2020, 1, 2))
ZONES = st.sampled_from(["Z", "+01:00", "-05:00", "+14:00", "-12:00", "+05:45"])
AMOUNTS = st.decimals(-20, 20, places=2) | st.sampled_from([Decimal(t) for t in ("0", "5.40", "1E+2", "1E-7", "-0.0")])


@st.composite
def dates(draw: st.DrawFn) -> str:
    """A date of any precision."""
    length = draw(st.sampled_from([4, 7, 10, 16, 19, 23]))
    if length <= 10:
        return draw(DAYS).isoformat()[:length]
    when = draw(TIMES).isoformat(timespec="milliseconds")
    return when[: 19 if length == 16 else length] + draw(ZONES)


@st.composite
def quantities(draw: st.DrawFn) -> dict[str, Any]:
    found: dict[str, Any] = {"value": draw(AMOUNTS)}
    unit = draw(st.sampled_from(["", "mg", "g", "kg", "Cel", "furlong"]))
    return found | ({"system": "http://unitsofmeasure.org", "code": unit, "unit": unit} if unit else {})


def codings() -> st.SearchStrategy[list[dict[str, str]]]:
    one = st.tuples(SYSTEMS, CODES).map(lambda p: {"code": p[1], **({"system": p[0]} if p[0] else {})})
    return st.lists(one, max_size=2)


@st.composite
def observations(draw: st.DrawFn) -> dict[str, Any]:
    found: dict[str, Any] = {"resourceType": "Observation", "status": draw(st.sampled_from(["final", "amended"]))}
    found["code"] = {"coding": draw(codings()), "text": draw(WORDS)}
    how = draw(st.integers(0, 3))
    if how == 1:
        found["effectiveDateTime"] = draw(dates())
    elif how == 2:
        ends = {name: draw(dates()) for name in draw(st.sets(st.sampled_from(["start", "end"])))}
        found["effectivePeriod"] = ends
    elif how == 3:
        found["effectiveTiming"] = {"event": draw(st.lists(dates(), min_size=1, max_size=3))}
    if draw(st.booleans()):
        found["subject"] = {
            "reference": draw(st.sampled_from(["Patient/1", "Patient/2", "Group/1", "http://x/Patient/1"]))
        }
    if draw(st.booleans()):
        found["valueQuantity"] = draw(quantities())
    else:
        found["valueString"] = draw(WORDS)
    parts = st.tuples(codings(), quantities())
    rows = draw(st.lists(parts, max_size=2))
    found["component"] = [{"code": {"coding": c}, "valueQuantity": q} for c, q in rows]
    return found


@st.composite
def criteria(draw: st.DrawFn) -> tuple[str, str]:
    """A parameter and a value for it, in every form that the type has."""
    return draw(st.one_of(_dates(), _tokens(), _strings(), _quantities(), _composites(), _others()))


def _prefixed(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    prefixes = st.sampled_from(["", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"])
    return st.tuples(prefixes, values).map("".join)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace(",", "\\,").replace("|", "\\|").replace("$", "\\$")


def _dates() -> st.SearchStrategy[tuple[str, str]]:
    return _prefixed(dates()).map(lambda value: ("date", value))


def _token(code: str, system: str, how: int) -> str:
    return [
        _escaped(code),
        f"{_escaped(system)}|{_escaped(code)}",
        f"|{_escaped(code)}",
        f"{_escaped(system) or 'http://a'}|",
    ][how]


def _tokens() -> st.SearchStrategy[tuple[str, str]]:
    names = st.sampled_from(["code", "code:not", "component-code", "combo-code"])
    values = st.builds(_token, CODES, SYSTEMS, st.integers(0, 3))
    return st.tuples(names, st.lists(values, min_size=1, max_size=3).map(",".join))


def _strings() -> st.SearchStrategy[tuple[str, str]]:
    names = st.sampled_from(
        ["value-string", "value-string:exact", "value-string:contains", "code:text", "value-string:text"]
    )
    return st.tuples(names, WORDS.map(_escaped)).filter(lambda p: ":text" not in p[0] or p[1].isalnum())


def _quantity(amount: Decimal, unit: str) -> str:
    return f"{amount}|http://unitsofmeasure.org|{unit}" if unit else f"{amount}"


def _amounts() -> st.SearchStrategy[str]:
    units = st.sampled_from(["", "mg", "g", "Cel", "furlong"])
    return _prefixed(st.builds(_quantity, AMOUNTS, units))


def _quantities() -> st.SearchStrategy[tuple[str, str]]:
    return _amounts().map(lambda value: ("value-quantity", value))


def _composites() -> st.SearchStrategy[tuple[str, str]]:
    values = st.tuples(st.builds(_token, CODES, SYSTEMS, st.integers(0, 2)), _amounts()).map("$".join)
    return st.tuples(st.sampled_from(["component-code-value-quantity", "combo-code-value-quantity"]), values)


def _others() -> st.SearchStrategy[tuple[str, str]]:
    names = st.sampled_from(["date", "code", "subject", "patient", "value-quantity", "value-string", "component-code"])
    absent = st.tuples(names.map(lambda name: f"{name}:missing"), st.sampled_from(["true", "false"]))
    people = st.tuples(
        st.sampled_from(["subject", "patient"]), st.sampled_from(["Patient/1", "2", "http://x/Patient/1"])
    )
    words = st.tuples(st.just("_content"), st.sampled_from(["ann", "bo*", "strasse or ann", "not bo"]))
    return st.one_of(absent, people, words)


@pytest.fixture(scope="module")
def collection(mongo_url: str) -> Iterator[Collection[Any]]:
    with MongoClient[Any](mongo_url) as client:
        yield client["agreement"]["resources"]
        client.drop_database("agreement")


def clause_of(pairs: list[tuple[str, str]]) -> Clause:
    return parse("Observation", pairs, REGISTRY, base=BASE, now=1_767_225_600_000).clauses


SLOWLY = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), database=None)


@SLOWLY
@given(rows=st.lists(observations(), min_size=5, max_size=COUNT), asked=st.lists(criteria(), min_size=40, max_size=60))
def test_memory_and_database_agree(
    collection: Collection[Any], rows: list[dict[str, Any]], asked: list[tuple[str, str]]
) -> None:
    """Each clause, two together, either of two and its negation: the same resources both ways, whatever drives."""
    world = {f"Observation/{n}": {**row, "id": str(n)} for n, row in enumerate(rows)}
    written = {name: entries(row, REGISTRY, BASE) for name, row in world.items()}
    collection.delete_many({})
    collection.create_index("s")
    collection.insert_many([{"_id": name, "s": found, "at": AT} for name, found in written.items()])
    single = [clause_of([pair]) for pair in asked]
    pairs = list(pairwise(single))
    joined = [every(p) for p in pairs[::4]] + [some(p) for p in pairs[1::4]] + [without(c) for c in single[::5]]
    for clause in (*single, *joined):
        wide = widened(clause)
        expected = {n for n, row in world.items() if matches(wide, written[n], row)}
        for filter in filters_of(wide):
            found = {d["_id"] for d in collection.find(filter, {"_id": 1})}
            assert found == expected, (clause, filter)
        if is_seen(clause):
            assert wide == clause
        else:
            assert {n for n, row in world.items() if matches(clause, written[n], row)} <= expected


def filters_of(clause: Clause) -> list[dict[str, Any]]:
    """The filter as it is, hidden from the choice of an index, and with each part driving."""
    found: list[dict[str, Any]] = [compile(clause), {"$and": [compile(ALWAYS), hidden(clause)]}]
    plain = merged(clause, REGISTRY)
    parts = getattr(plain, "clauses", (plain,))
    return [*found, *(chosen(plain, part).filter for part in parts)]
