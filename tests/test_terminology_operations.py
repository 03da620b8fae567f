"""$lookup, $subsumes, $find-matches, $translate, $closure, and what other rooms ask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.outcome import FhirError
from terminology.closure import Closure, closure, of_record
from terminology.codes import expand_codes, member_of, search_codes, subsumes
from terminology.icd10 import Icd10
from terminology.membership import checker_of
from terminology.request import Options, Parameters, Rule
from tests.terminology_world import (
    ANIMALS,
    ICD10,
    SETS,
    ask,
    codes,
    concept,
    library,
    refused,
    system,
    value,
    value_set,
)

TREE = concept("animal", concept("dog", concept("poodle")), concept("bird", concept("owl")))
KNOWN = library(system("1", TREE), value_set("x", {"system": ANIMALS}))


def test_a_lookup_shows_relatives_and_properties() -> None:
    """All of them, or those asked for."""
    answer = ask(KNOWN, "CodeSystem", "lookup", system=ANIMALS, code="dog")
    parts = [{p["name"]: p for p in row["part"]} for row in answer["parameter"] if row["name"] == "property"]
    assert {(p["code"]["valueCode"], p["value"].get("valueCode")) for p in parts} >= {
        ("parent", "animal"),
        ("child", "poodle"),
    }
    some = ask(KNOWN, "CodeSystem", "lookup", system=ANIMALS, code="dog", property="parent")
    assert [row["name"] for row in some["parameter"]].count("property") == 1


def test_a_lookup_of_nothing_says_what_is_missing() -> None:
    """404 with the code, or the versions that are known."""
    assert "'cat'" in refused(KNOWN, "CodeSystem", "lookup", system=ANIMALS, code="cat").text
    error = refused(KNOWN, "CodeSystem", "lookup", system=ANIMALS, code="dog", version="7")
    assert (error.status, "Valid versions: 1" in error.text) == (404, True)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("dog", "poodle", "subsumes"),
        ("poodle", "dog", "subsumed-by"),
        ("dog", "dog", "equivalent"),
        ("dog", "owl", "not-subsumed"),
    ],
)
def test_subsumption_is_told_from_both_sides(a: str, b: str, expected: str) -> None:
    """http://hl7.org/fhir/R4/codesystem-operation-subsumes.html."""
    assert value(ask(KNOWN, "CodeSystem", "subsumes", system=ANIMALS, codeA=a, codeB=b), "outcome") == expected


def test_a_cyclic_hierarchy_ends(  # attack D15
) -> None:
    """Each is above the other, so they are equivalent."""
    round_ = [
        concept("a", property=[{"code": "parent", "valueCode": "b"}]),
        concept("b", property=[{"code": "parent", "valueCode": "a"}]),
    ]
    known = library(system("1", *round_))
    assert value(ask(known, "CodeSystem", "subsumes", system=ANIMALS, codeA="a", codeB="b"), "outcome") == "equivalent"


def test_matches_are_found_by_their_properties() -> None:
    """Below a value, and exactly."""
    part = [{"name": "code", "valueCode": "parent"}, {"name": "value", "valueCode": "animal"}]
    row = {"name": "property", "part": part}
    found = ask(KNOWN, "CodeSystem", "find-matches", row, system=ANIMALS, exact=True)
    assert [m["part"][0]["valueCoding"]["code"] for m in found["parameter"]] == ["dog", "bird"]
    wide = ask(KNOWN, "CodeSystem", "find-matches", row, system=ANIMALS)
    assert [m["part"][0]["valueCoding"]["code"] for m in wide["parameter"]] == ["dog", "bird", "owl", "poodle"]


HAVING = {
    ("billable", "true"): lambda s, c: s.billable(c),
    ("billable", "false"): lambda s, c: not s.billable(c),
    ("chapter", "4"): lambda s, c: "4" in s.values(c, "chapter"),
    ("excludes1", "type 1 diabetes mellitus (E10.-)"): lambda s, c: (
        "type 1 diabetes mellitus (E10.-)" in s.values(c, "excludes1")
    ),
    ("excludes1", "nobody says so"): lambda s, c: False,
}


@pytest.mark.parametrize("name, text", HAVING)
def test_codes_with_a_property_are_found_without_reading_all(name: str, text: str) -> None:
    """Those that a look at every concept of ICD-10-CM finds, in their order."""
    icd = library().code_system(ICD10)
    assert isinstance(icd, Icd10)
    numbers = icd.having(name, text)
    assert numbers is not None
    assert [icd.code(n) for n in numbers] == [code for code in icd.codes() if HAVING[name, text](icd, code)]
    row = {"system": ICD10, "filter": [{"property": name, "op": "=", "value": text}]}
    asked = {"name": "valueSet", "resource": value_set("having", row)}
    assert ask(library(), "ValueSet", "expand", asked, count=0)["expansion"]["total"] == len(numbers)


def test_large_sets_and_rules_without_end_are_not_kept() -> None:
    """What is kept for the next request is bounded, whatever callers ask for."""
    known = library()
    small = known.value_set(f"{ICD10}?fhir_vs=isa/E11")
    assert small is not None
    assert checker_of(known, Options(), small, 0) is checker_of(known, Options(), small, 0)
    ruled = replace(Options(), rules=(Rule("force", ICD10, "2026"),))
    assert checker_of(known, ruled, small, 0) is not checker_of(known, ruled, small, 0)
    billable = {"system": ICD10, "filter": [{"property": "billable", "op": "=", "value": "true"}]}
    large = value_set("billable", billable)
    assert checker_of(known, Options(), large, 1) is not checker_of(known, Options(), large, 1)


FRENCH, GERMAN = "http://example.org/fr", "http://example.org/de"


def concept_map(name: str, source: str, target: str, *elements: Any, **group: Any) -> dict[str, Any]:
    rows = [{"code": code, "target": [{"code": to, "equivalence": equivalence}]} for code, to, equivalence in elements]
    return {
        "resourceType": "ConceptMap",
        "url": SETS + name,
        "status": "active",
        "group": [{"source": source, "target": target, "element": rows, **group}],
    }


def targets(answer: Any) -> list[tuple[str, str]]:
    found = []
    for row in answer["parameter"]:
        if row["name"] == "match":
            parts = {p["name"]: p for p in row["part"]}
            found.append((parts["concept"]["valueCoding"]["code"], parts["equivalence"]["valueCode"]))
    return found


def test_a_translation_can_be_read_from_both_ends() -> None:
    """`reverse` turns wider into narrower."""
    known = library(concept_map("m", ANIMALS, FRENCH, ("poodle", "chien", "wider"), ("owl", "hibou", "equivalent")))
    there = ask(known, "ConceptMap", "translate", url=SETS + "m", system=ANIMALS, code="poodle")
    assert targets(there) == [("chien", "wider")]
    back = ask(known, "ConceptMap", "translate", url=SETS + "m", system=FRENCH, code="chien", reverse=True)
    assert targets(back) == [("poodle", "narrower")]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"mode": "provided"}, [("cat", "equal")]),
        ({"mode": "fixed", "code": "animal"}, [("animal", "relatedto")]),
        ({"mode": "other-map", "url": SETS + "other"}, [("chat", "equivalent")]),
    ],
)
def test_codes_that_are_not_mapped_follow_the_rule(rule: dict[str, str], expected: list[tuple[str, str]]) -> None:
    """http://hl7.org/fhir/R4/valueset-conceptmap-unmapped-mode.html."""
    known = library(
        concept_map("m", ANIMALS, FRENCH, ("dog", "chien", "equivalent"), unmapped=rule),
        concept_map("other", ANIMALS, FRENCH, ("cat", "chat", "equivalent")),
    )
    assert targets(ask(known, "ConceptMap", "translate", url=SETS + "m", system=ANIMALS, code="cat")) == expected


def test_maps_are_chained_to_reach_a_system() -> None:
    """What two maps say together; where they disagree, no more than `relatedto`."""
    known = library(
        concept_map("a", ANIMALS, FRENCH, ("dog", "chien", "equivalent"), ("owl", "hibou", "wider")),
        concept_map("b", FRENCH, GERMAN, ("chien", "Hund", "wider"), ("hibou", "Eule", "narrower")),
    )
    answer = ask(known, "ConceptMap", "translate", system=ANIMALS, code="dog", targetsystem=GERMAN)
    assert targets(answer) == [("Hund", "wider")]
    answer = ask(known, "ConceptMap", "translate", system=ANIMALS, code="owl", targetsystem=GERMAN)
    assert targets(answer) == [("Eule", "relatedto")]


def test_maps_in_a_circle_end() -> None:
    """The way round is named (attack D15)."""
    known = library(
        concept_map("a", ANIMALS, FRENCH, unmapped={"mode": "other-map", "url": SETS + "b"}),
        concept_map("b", ANIMALS, FRENCH, unmapped={"mode": "other-map", "url": SETS + "a"}),
    )
    assert "circle" in refused(known, "ConceptMap", "translate", url=SETS + "a", system=ANIMALS, code="dog").text


def test_a_map_to_nowhere_is_no_success() -> None:
    """`result` is false and the message says why."""
    answer = ask(KNOWN, "ConceptMap", "translate", system=ANIMALS, code="dog", targetsystem="http://none")
    assert value(answer, "result") is False
    assert "dog" in value(answer, "message")
    assert refused(KNOWN, "ConceptMap", "translate", url="http://none", system=ANIMALS, code="dog").status == 404


def rows(*codes: str) -> list[dict[str, Any]]:
    return [{"name": "concept", "valueCoding": {"system": ANIMALS, "code": c}} for c in codes]


def test_a_closure_table_grows() -> None:
    """Each call tells what is new; the whole can be asked for again."""
    name = {"name": "name", "valueString": "t"}
    table, _ = closure(KNOWN, Parameters([name]), None)
    table, first = closure(KNOWN, Parameters([name, *rows("poodle", "dog")]), table)
    assert first["group"][0]["element"] == [{"code": "poodle", "target": [{"code": "dog", "equivalence": "subsumes"}]}]
    table, second = closure(KNOWN, Parameters([name, *rows("animal")]), of_record(table.record()))
    assert {e["code"] for e in second["group"][0]["element"]} == {"poodle", "dog"}
    _, again = closure(KNOWN, Parameters([name, {"name": "version", "valueString": "0"}]), table)
    assert len(again["group"][0]["element"]) == 2
    assert table == Closure("t", 2, ((ANIMALS, "poodle", 1), (ANIMALS, "dog", 1), (ANIMALS, "animal", 2)))


def test_an_unknown_closure_table_is_404() -> None:
    """It has to be begun with its name alone."""
    with pytest.raises(FhirError) as refusal:
        closure(KNOWN, Parameters([{"name": "name", "valueString": "t"}, *rows("dog")]), None)
    assert refusal.value.status == 404


def test_membership_is_true_false_or_unknown() -> None:
    """For bindings and `memberOf()`."""
    assert member_of(KNOWN, SETS + "x", "dog", ANIMALS) is True
    assert member_of(KNOWN, SETS + "x", "cat", ANIMALS) is False
    assert member_of(KNOWN, SETS + "x", "dog", None) is True
    assert member_of(KNOWN, SETS + "none", "dog", ANIMALS) is None
    assert member_of(KNOWN, "http://hl7.org/fhir/ValueSet/administrative-gender", "male", None) is True
    assert member_of(KNOWN, "http://hl7.org/fhir/ValueSet/ucum-units|4.0.1", "mg/dL", None) is True
    assert member_of(KNOWN, "http://hl7.org/fhir/ValueSet/ucum-units", "furlongs", "http://unitsofmeasure.org") is False


def test_subsumption_for_other_rooms() -> None:
    """Unknown codes give no answer."""
    assert subsumes(KNOWN, ANIMALS, "dog", "poodle") is True
    assert subsumes(KNOWN, ANIMALS, "poodle", "dog") is False
    assert subsumes(KNOWN, ANIMALS, "cat", "dog") is None


def test_branches_and_value_sets_become_codes() -> None:
    """`:below`, `:above` and `:in`; 117 codes are at or below E11."""
    below = search_codes(KNOWN, "below", f"{ICD10}|E11")[ICD10]
    assert len(below) == 117
    assert {"E11", "E11.65", "E11.A"} <= below
    assert "E10.1" not in below
    assert expand_codes(KNOWN, f"{ICD10}?fhir_vs=isa/E11") == {ICD10: below}
    above = search_codes(KNOWN, "above", f"{ICD10}|E11.65")
    assert above == {ICD10: {"E11.65", "E11.6", "E11", "E08-E13", "4"}}


def test_what_a_search_cannot_mean_is_an_error() -> None:
    """Unknown value set, system and code are 400 for the searcher."""
    for how, text in (("in", "http://none"), ("below", "http://none|x"), ("below", f"{ICD10}|nope"), ("below", "x")):
        with pytest.raises(FhirError) as refusal:
            search_codes(KNOWN, how, text)
        assert refusal.value.status == 400


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Any]:
    """A code system of up to twelve codes, each below some earlier ones."""
    size = draw(st.integers(1, 12))
    flat = []
    for number in range(size):
        above = draw(st.sets(st.integers(0, number - 1), max_size=2)) if number else set()
        flat.append(concept(f"c{number}", property=[{"code": "parent", "valueCode": f"c{n}"} for n in sorted(above)]))
    return system("1", *flat)


@given(trees())
def test_subsumption_is_a_partial_order(resource: dict[str, Any]) -> None:
    """Reflexive, antisymmetric, transitive."""
    known = library(resource)
    names = [c["code"] for c in resource["concept"]]
    above = {(a, b) for a in names for b in names if subsumes(known, ANIMALS, a, b)}
    assert all((a, a) in above for a in names)
    assert all(a == b or (b, a) not in above for a, b in above)
    assert all((a, d) in above for a, b in above for c, d in above if b == c)


OPERATORS = st.sampled_from(("is-a", "descendent-of", "is-not-a", "generalizes", "child-of", "descendent-leaf", "="))


@given(trees(), OPERATORS, st.integers(0, 12), st.booleans())
def test_expand_and_validate_agree(resource: dict[str, Any], operator: str, number: int, negate: bool) -> None:
    """A code is in the expansion exactly where $validate-code says that it is in the value set."""
    wanted = f"c{number % len(resource['concept'])}"
    row = {"system": ANIMALS, "filter": [{"property": "concept", "op": operator, "value": wanted}]}
    made = value_set("x", {"system": ANIMALS}, exclude=[row]) if negate else value_set("x", row)
    known = library(resource, made)
    inside = set(codes(ask(known, "ValueSet", "expand", url=SETS + "x", excludeNested=True)))
    for each in resource["concept"]:
        answer = ask(known, "ValueSet", "validate-code", url=SETS + "x", system=ANIMALS, code=each["code"])
        assert value(answer, "result") is (each["code"] in inside)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_a_translation_comes_back(pairs: list[tuple[int, int]]) -> None:
    """Every target of a code has the code among its sources, and the other way round."""
    known = library(concept_map("m", ANIMALS, FRENCH, *((f"a{a}", f"b{b}", "equivalent") for a, b in pairs)))
    for a, b in pairs:
        there = ask(known, "ConceptMap", "translate", url=SETS + "m", system=ANIMALS, code=f"a{a}")
        assert (f"b{b}", "equivalent") in targets(there)
        back = ask(known, "ConceptMap", "translate", url=SETS + "m", system=FRENCH, code=f"b{b}", reverse=True)
        assert (f"a{a}", "equivalent") in targets(back)
