"""UCUM: the grammar, canonical values, conversion (https://ucum.org/ucum)."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles import ucum

TABLE = json.loads((Path(ucum.__file__).parent / "data" / "ucum.json").read_text())


@pytest.mark.parametrize(
    "unit",
    [
        "m", "mm", "kg", "g/dL", "10*3/uL", "10*-6", "10^9/L", "/min", "{beats}/min", "mm[Hg]", "m[H2O]", "1", "%",
        "mg{creat}", "kg.m/s2", "kg.m-1.s-2", "umol/(24.h)", "g/(kg.d)", "[iU]/mL", "k[iU]/L", "Cel",
        "[degF]", "dB", "[pH]", "mo_j", "wk", "ng/mL{RBCs}", "{copies}", "100.mg", "m+2",
        "[in_i'H2O]", "B[10.nV]",
    ],
)  # fmt: skip
def test_units_of_the_grammar_are_valid(unit: str) -> None:
    """Sections 2.2 and 2.3: terms, prefixes, exponents, annotations."""
    assert ucum.valid(unit)


@pytest.mark.parametrize(
    "unit",
    ["", " ", "mL/", "m//s", "foo", "kfoo", "(m", "m)", "m s", "2m2", "{a", "a}", "Cel2", "m.Cel", "[s]", "MM",
     "k[in_i]", "0", "(mg/dL)2", "m²", "µg", "m" * 300, "(" * 50 + "m" + ")" * 50, "m999", "m^2"],
)  # fmt: skip
def test_other_texts_are_not(unit: str) -> None:
    """What leaves the grammar, prefixes on non-metric units, powers of special units."""
    assert not ucum.valid(unit)


def test_every_unit_of_the_table_is_valid() -> None:
    """All 305 units and 7 base units, the metric ones with every prefix."""
    units = [*TABLE["units"], *TABLE["base"]]
    assert len(units) == 312
    assert [unit for unit in units if not ucum.valid(unit)] == []
    metric = [code for code, row in TABLE["units"].items() if "m" in row[2]]
    assert all(ucum.valid(prefix + code) for prefix in TABLE["prefixes"] for code in metric)


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        ("5", "mm", ("0.005", "m")),
        ("37", "Cel", ("310.15", "K")),
        ("98.6", "[degF]", ("310.15", "K")),
        ("1", "[lb_av]", ("453.59237", "g")),
        ("60", "{beats}/min", ("1", "s-1")),
        ("1", "J", ("1000", "g.m2.s-2")),
        ("1", "N.m", ("1000", "g.m2.s-2")),
        ("1", "[iU]/mL", ("1000000", "[iU].m-3")),
        ("1", "%", ("0.01", "1")),
        ("7.0", "g", ("7", "g")),
        ("1", "mol", ("602214076000000000000000", "1")),
        ("1000", "m", ("1000", "m")),
    ],
)
def test_canonical(value: str, unit: str, expected: tuple[str, str]) -> None:
    """A value in base units, exact, in plain digits."""
    found = ucum.canonical(Decimal(value), unit)
    assert found is not None
    assert (format(found[0], "f"), found[1]) == expected


def test_unknown_and_absurd_have_no_canonical_form() -> None:
    """No exception, no long reckoning."""
    assert ucum.canonical(Decimal(1), "foo") is None
    start = time.process_time()
    assert ucum.canonical(Decimal("1e300000"), "m") is None
    assert ucum.canonical(Decimal("NaN"), "m") is None
    assert ucum.canonical(Decimal("-1e200"), "[pH]") is None
    assert time.process_time() - start < 0.1


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        ("37", "Cel", "[degF]", "98.6"),
        ("1", "[in_i]", "cm", "2.54"),
        ("180", "mg/dL", "g/L", "1.8"),
        ("1", "h", "s", "3600"),
        ("1", "wk", "d", "7"),
        ("7", "[pH]", "mol/l", "0.0000001"),
    ],
)
def test_convert(value: str, source: str, target: str, expected: str) -> None:
    """Between units of one dimension, special ones too."""
    assert ucum.convert(Decimal(value), source, target) == Decimal(expected)


def test_comparable() -> None:
    """Same dimension; arbitrary units only with themselves."""
    assert ucum.comparable("J", "N.m")
    assert ucum.comparable("[IU]", "[iU]")
    assert not ucum.comparable("[iU]", "[arb'U]")
    assert not ucum.comparable("m", "s")
    assert not ucum.comparable("m", "foo")
    assert ucum.convert(Decimal(1), "m", "s") is None


@given(st.text(alphabet="mgsKd10*^+-./(){}[]2 Celk%", max_size=12))
def test_no_text_breaks_the_parser(text: str) -> None:
    """Any text is a unit or is not; a product with itself stays comparable to its square."""
    if ucum.valid(text) and ucum.valid(f"({text}).({text})"):
        assert ucum.canonical(Decimal(2), f"({text}).({text})") is not None


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**9), max_value=10**9))
def test_conversion_there_and_back(value: Decimal) -> None:
    """Factors are exact fractions."""
    there = ucum.convert(value, "[in_i]", "km")
    assert there is not None
    assert ucum.convert(there, "km", "[in_i]") == value
