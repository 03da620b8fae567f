"""The cases leave nothing out: every row of MATCH, every prefix under every precision, every operator of `_filter`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from search.operators import OPERATORS
from search.params import Parameter, Registry
from search.query import CONTROLS
from search.specials import LISTS, QUERIES, SPECIALS
from search.types import MATCH
from search.values import PREFIXES
from tests.searching import Case, all_cases

REGISTRY = Registry.r4()
SOUND = [case for case in all_cases() if not case.error]


def asked() -> Iterator[tuple[Case, Parameter, str, str]]:
    """Each plain criterion of the cases: its parameter, modifier and value."""
    for case in SOUND:
        for name, value in case.pairs:
            code, _, modifier = name.partition(":")
            parameter = REGISTRY.lookup(case.type or "Resource", code)
            if parameter is not None and "." not in name:
                yield case, parameter, modifier, value


def test_every_modifier_of_every_type_has_a_case() -> None:
    """Each row of MATCH; of the rows for resource types, one stands for all."""
    used = {(parameter.type, modifier) for _, parameter, modifier, _ in asked()}
    rows = {(kind, modifier) for kind, modifier in MATCH if not modifier[:1].isupper()}
    assert rows - used == set()
    assert any(kind == "reference" and modifier[:1].isupper() for kind, modifier in used)


def test_every_prefix_has_a_case_in_every_precision() -> None:
    """Nine prefixes under dates of six precisions; under numbers and quantities with and without decimals and units."""
    dates = {(value[:2], len(value.partition("+")[0].rstrip("Z"))) for value in values_of("date")}
    lengths = {4, 7, 10, 16, 19, 23}
    assert {(p, n + 2) for p in PREFIXES for n in lengths if p != "eq"} - dates == set()
    for kind in ("number", "quantity"):
        found = {(v[:2], "." in v.partition("|")[0]) for v in values_of(kind)}
        assert {(p, exact) for p in PREFIXES if p != "eq" for exact in (True, False)} - found == set()
    units = {(v[:2], v.count("|")) for v in values_of("quantity")}
    assert {(p, 2) for p in PREFIXES if p != "eq"} - units == set()


def values_of(kind: str) -> list[str]:
    return [value for _, parameter, modifier, value in asked() if parameter.type == kind and not modifier]


def test_every_name_with_a_meaning_has_a_case() -> None:
    """Special parameters, result parameters, operators of `_filter`, named queries and functional lists."""
    names = {name.partition(":")[0] for case in SOUND for name, _ in case.pairs}
    shown_elsewhere = {"_count", "_total", "_summary", "_elements", "_include", "_revinclude", "_explain"}
    contained = {"_contained", "_containedType"}
    assert {*SPECIALS, *CONTROLS} - names - shown_elsewhere - contained == set()
    filters = " ".join(value for case in SOUND for name, value in case.pairs if name == "_filter")
    assert [name for name in OPERATORS if not re.search(rf" {name} ", filters)] == []
    values = {(case.type, value) for case in SOUND for name, value in case.pairs if name in ("_query", "_list")}
    assert {*QUERIES, *LISTS} - values == set()


def test_no_case_is_like_another() -> None:
    """A thousand cases: no query twice, not even with its parameters in another order."""
    queries = [(c.file, c.query.partition("?")[0], tuple(sorted(c.pairs))) for c in all_cases()]
    assert len(queries) == len(set(queries)) > 1_000
