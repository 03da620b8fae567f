"""ICD-10: what the tabular list says, found by three letters, checked as a coder would."""

from __future__ import annotations

from typing import Any

import pytest

from terminology.completion import search
from terminology.icd10 import Icd10, Patient, covers, references, validate
from tests.terminology_world import ICD10, ask, codes, library, value

KNOWN = library()


@pytest.fixture(scope="module")
def icd() -> Icd10:
    found = KNOWN.code_system(ICD10)
    assert isinstance(found, Icd10)
    return found


def properties(code: str) -> dict[str, list[Any]]:
    answer = ask(KNOWN, "CodeSystem", "lookup", system=ICD10, code=code)
    found: dict[str, list[Any]] = {}
    for row in answer["parameter"]:
        if row["name"] == "property":
            parts = {p["name"]: next(v for k, v in p.items() if k.startswith("value")) for p in row["part"]}
            found.setdefault(parts["code"], []).append(parts["value"])
    return found


def test_all_of_it_is_there(icd: Icd10) -> None:
    """98,505 items, 74,719 of them billable, as NCHS counts for 2026."""
    assert icd.total() == 98_505
    assert sum(icd.billable(c) for c in icd.codes()) == 74_719


def test_the_tree_and_the_notes_are_properties() -> None:
    """Chapter, block, billable; the notes at the place where they are printed."""
    assert properties("E11.65") | {} == {
        "inactive": [False],
        "parent": ["E11.6"],
        "billable": [True],
        "chapter": ["4"],
        "block": ["E08-E13"],
    }
    diabetes = properties("E11")
    assert diabetes["billable"] == [False]
    assert any("type 1 diabetes mellitus (E10.-)" in note for note in diabetes["excludes1"])
    assert any("insulin (Z79.4)" in note for note in diabetes["useAdditionalCode"])
    assert "A: initial encounter" in " ".join(
        properties("S06.0X")["sevenChrDef"]
        if "sevenChrDef" in properties("S06.0X")
        else properties("S06")["sevenChrDef"]
    )


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("dia", "diabetes"),
        ("diab", "diabetes"),
        ("diabetis", "diabetes"),
        ("broken radius distal", ""),
        ("E1165", "Type 2 diabetes mellitus with hyperglycemia"),
        ("heart attack", ""),
        ("hypertensoin", "hypertension"),
    ],
)
def test_what_a_coder_types_finds_a_code(icd: Icd10, typed: str, expected: str) -> None:
    """Beginnings of words, codes without the dot, typing errors."""
    found = search(icd, typed, 10)
    assert not expected or expected in found[0]["display"]


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("dia", "E11.9"),
        ("dm2", "E11.9"),
        ("diabetes with hyperglycemia", "E11.65"),
        ("type 1 diabetes", "E10.9"),
        ("ast", "J45.909"),
        ("astma", "J45.909"),
        ("asthma exacerbation", "J45.901"),
        ("hip fracture left initial encounter", "S72.002A"),
        ("broken hip", "S72.009A"),
        ("ankle sprain", "S93.409A"),
        ("htn", "I10"),
        ("high blood pressure", "I10"),
        ("hypertnsion", "I10"),
        ("copd", "J44.9"),
        ("mi", "I21.9"),
        ("heart attck", "I21.9"),
        ("stemi", "I21.3"),
        ("chf", "I50.9"),
        ("afib", "I48.91"),
        ("ckd stage 3", "N18.30"),
        ("stroke", "I63.9"),
        ("uti", "N39.0"),
        ("gerd", "K21.9"),
        ("depresion", "F32.A"),
        ("pnuemonia", "J18.9"),
        ("flu", "J11.1"),
        ("back pain", "M54.9"),
        ("dvt", "I82.409"),
        ("hiv", "B20"),
        ("lung cancer", "C34.90"),
        ("otitis media", "H66.90"),
        ("cellulitis leg left", "L03.116"),
        ("covid", "U07.1"),
        ("S52.5", "S52.5"),
        ("e11", "E11"),
    ],
)
def test_the_code_that_a_coder_would_take_comes_first(icd: Icd10, typed: str, code: str) -> None:
    """By letters, shorthand, everyday words and with typing errors: billable, unless a code itself was typed."""
    assert search(icd, typed, 5)[0]["code"] == code


def test_a_completion_carries_what_the_coder_needs(icd: Icd10) -> None:
    """Billable flag, chapter, and the notes of all above."""
    row = search(icd, "E11.65", 1)[0]
    assert (row["code"], row["billable"], row["chapter"]["code"]) == ("E11.65", True, "4")
    assert {"at": "E11", "kind": "excludes1", "text": "type 1 diabetes mellitus (E10.-)"} in row["notes"]


def test_codes_are_checked_as_a_coder_would(icd: Icd10) -> None:
    """Valid, billable, 7th character, and what is no code at all."""
    rows = {r["code"]: r for r in validate(icd, ["E11.65", "E11", "S52.501", "E1165", "E11.999"])["codes"]}
    assert rows["E11.65"]["problems"] == []
    assert not rows["E11"]["billable"]
    assert rows["S52.501"]["needs7thCharacter"]
    assert "A, B, C" in rows["S52.501"]["problems"][0]
    assert not rows["E11.999"]["valid"]
    assert "E11.9" in rows["E11.999"]["problems"][0]


def test_codes_that_exclude_each_other_are_told(icd: Icd10) -> None:
    """Excludes1 at E11: type 1 diabetes mellitus (E10.-)."""
    found = validate(icd, ["E11.65", "E10.9", "I10"])["excluded"]
    assert {(p["code"], p["excludes"]) for p in found} >= {("E11.65", "E10.9"), ("E10.9", "E11.65")}
    assert not any("I10" in (p["code"], p["excludes"]) for p in found)


def test_sex_and_age_are_checked_where_the_list_says_so(icd: Icd10) -> None:
    """Chapter 15 is for maternal records, chapter 16 for newborn records."""
    man, woman, adult = Patient("male"), Patient("female"), Patient(age_days=10_000)
    assert validate(icd, ["O80"], man)["codes"][0]["problems"]
    assert not validate(icd, ["O80"], woman)["codes"][0]["problems"]
    assert validate(icd, ["N40.0"], woman)["codes"][0]["problems"]
    assert not validate(icd, ["N40.0"], man)["codes"][0]["problems"]
    assert validate(icd, ["P07.30"], adult)["codes"][0]["problems"]
    assert not validate(icd, ["P07.30"], Patient(age_days=3))["codes"][0]["problems"]


def test_references_in_notes_are_read() -> None:
    """Single codes, branches and ranges."""
    assert references("type 1 diabetes mellitus (E10.-)") == ("E10.-",)
    assert references("specific to the perinatal period (P35-P39)") == ("P35-P39",)
    assert references("burn (T20-T25) and hyperglycemia (E11.65)") == ("T20-T25", "E11.65")
    assert covers("E10.-", "E10.9")
    assert covers("P35-P39", "P36.10")
    assert not covers("P35-P39", "P40")
    assert not covers("E11.65", "E11.649")


def test_the_implicit_value_sets_expand() -> None:
    """All, and a branch (http://hl7.org/fhir/R4/terminologies-systems.html)."""
    whole = ask(KNOWN, "ValueSet", "expand", url=f"{ICD10}?fhir_vs", offset=0, count=1000)
    assert (len(codes(whole)), whole["expansion"]["total"]) == (1000, 98_505)
    branch = ask(KNOWN, "ValueSet", "expand", url=f"{ICD10}?fhir_vs=isa/E11", filter="eye", count=200)
    assert all(c.startswith("E11.3") for c in codes(branch))
    answer = ask(KNOWN, "ValueSet", "validate-code", url=f"{ICD10}?fhir_vs=isa/E11", system=ICD10, code="E10.9")
    assert value(answer, "result") is False


def test_billable_codes_can_be_filtered() -> None:
    """A value set of what may be billed."""
    row = {
        "system": ICD10,
        "filter": [
            {"property": "billable", "op": "=", "value": "true"},
            {"property": "concept", "op": "is-a", "value": "E11.6"},
        ],
    }
    made = {"resourceType": "ValueSet", "url": "http://x", "status": "active", "compose": {"include": [row]}}
    found = codes(ask(library(made), "ValueSet", "expand", url="http://x"))
    assert "E11.65" in found
    assert "E11.6" not in found


def test_general_equivalence_maps_translate() -> None:
    """E11.65 and back; what has no match says so."""
    answer = ask(
        KNOWN, "ConceptMap", "translate", system=ICD10, code="E11.65", targetsystem="http://hl7.org/fhir/sid/icd-9-cm"
    )
    assert value(answer, "result") is True
    nothing = ask(KNOWN, "ConceptMap", "translate", system=ICD10, code="T79.A0XA", targetsystem="http://none")
    assert value(nothing, "result") is False


def test_values_that_do_not_exist_are_not_kept(icd: Icd10) -> None:
    """Whoever filters by a million made-up codes leaves nothing behind."""
    kept = len(icd._in_tree)
    assert [list(icd.having("chapter", f"none-{n}") or ()) for n in range(3)] == [[], [], []]
    assert len(icd._in_tree) == kept
