"""$expand: composes, filters, versions, paging, text, and what is refused."""

from __future__ import annotations

import pytest

from terminology.content import shipped
from terminology.library import Library, Loose
from tests.terminology_world import ANIMALS, ICD10, SETS, ask, codes, concept, library, refused, system, value_set

TREE = concept(
    "animal",
    concept("dog", concept("poodle", property=[{"code": "legs", "valueInteger": 4}])),
    concept("bird", property=[{"code": "legs", "valueInteger": 2}, {"code": "status", "valueCode": "retired"}]),
    property=[{"code": "notSelectable", "valueBoolean": True}],
)
DECLARED = [
    {"code": "legs", "type": "integer"},
    {"code": "notSelectable", "uri": "http://hl7.org/fhir/concept-properties#notSelectable", "type": "boolean"},
]
ALL = {"system": ANIMALS}


def world(*resources: dict) -> Library:  # type: ignore[type-arg]
    return library(system("1.0.0", TREE, property=DECLARED), *resources)


def filtered(name: str, operator: str, wanted: str) -> dict:  # type: ignore[type-arg]
    return {"system": ANIMALS, "filter": [{"property": name, "op": operator, "value": wanted}]}


@pytest.mark.parametrize(
    ("name", "operator", "wanted", "expected"),
    [
        ("concept", "is-a", "dog", ["dog", "poodle"]),
        ("concept", "descendent-of", "animal", ["dog", "poodle", "bird"]),
        ("concept", "is-not-a", "dog", ["animal", "bird"]),
        ("concept", "child-of", "animal", ["dog", "bird"]),
        ("concept", "descendent-leaf", "animal", ["poodle", "bird"]),
        ("concept", "generalizes", "poodle", ["animal", "dog", "poodle"]),
        ("concept", "in", "dog,bird,cat", ["dog", "bird"]),
        ("concept", "not-in", "dog,bird", ["animal", "poodle"]),
        ("concept", "=", "dog", ["dog"]),
        ("code", "regex", "[a-d].*", ["animal", "dog", "bird"]),
        ("legs", "=", "4", ["poodle"]),
        ("legs", "in", "2,4", ["poodle", "bird"]),
        ("legs", "exists", "true", ["poodle", "bird"]),
        ("legs", "exists", "false", ["animal", "dog"]),
        ("parent", "=", "animal", ["dog", "bird"]),
        ("child", "exists", "false", ["poodle", "bird"]),
        ("notSelectable", "=", "true", ["animal"]),
        ("notSelectable", "=", "false", ["dog", "poodle", "bird"]),
        ("display", "regex", "P.*", ["poodle"]),
    ],
)
def test_every_filter_operator_selects(name: str, operator: str, wanted: str, expected: list[str]) -> None:
    """http://hl7.org/fhir/R4/valueset-filter-operator.html, in the order of the system."""
    known = world(value_set("x", filtered(name, operator, wanted)))
    assert codes(ask(known, "ValueSet", "expand", url=SETS + "x", excludeNested=True)) == expected


def test_includes_imports_and_excludes_combine() -> None:
    """Includes add up, what one include says holds together, excludes take away."""
    known = world(
        value_set("dogs", filtered("concept", "is-a", "dog")),
        value_set("x", ALL, exclude=[{"valueSet": [SETS + "dogs"]}]),
        value_set(
            "y", {"system": ANIMALS, "valueSet": [SETS + "dogs"], "concept": [{"code": "poodle"}, {"code": "bird"}]}
        ),
        value_set("z", {"valueSet": [SETS + "dogs", SETS + "y"]}, {"system": ANIMALS, "concept": [{"code": "bird"}]}),
    )
    assert codes(ask(known, "ValueSet", "expand", url=SETS + "x")) == ["animal", "bird"]
    assert codes(ask(known, "ValueSet", "expand", url=SETS + "y")) == ["poodle"]
    expanded = ask(known, "ValueSet", "expand", url=SETS + "z")
    assert codes(expanded) == ["poodle", "bird"]
    used = [p["valueUri"] for p in expanded["expansion"]["parameter"] if p["name"] == "used-valueset"]
    assert used == [SETS + "dogs", SETS + "y"]


def test_a_circle_of_imports_is_named() -> None:
    """The way round is in the text."""
    known = world(value_set("a", {"valueSet": [SETS + "b"]}), value_set("b", {"valueSet": [SETS + "a"]}))
    error = refused(known, "ValueSet", "expand", url=SETS + "a")
    assert error.status == 422
    assert f"[{SETS}a, {SETS}b]" in error.text


def test_two_versions_of_a_system_keep_apart() -> None:
    """Codes carry their version where one system is included twice."""
    known = library(
        system("1.0.0", concept("dog")),
        system("1.2.0", concept("dog"), concept("cat")),
        value_set("x", {**ALL, "version": "1.0.0"}, {**ALL, "version": "1.2.0"}),
    )
    rows = ask(known, "ValueSet", "expand", url=SETS + "x")["expansion"]["contains"]
    assert [(r["code"], r["version"]) for r in rows] == [("dog", "1.0.0"), ("dog", "1.2.0"), ("cat", "1.2.0")]


@pytest.mark.parametrize(
    ("include", "rules", "expected"),
    [
        ({}, {}, "1.2.0"),
        ({"version": "1.0.0"}, {}, "1.0.0"),
        ({"version": "1.x"}, {}, "1.2.0"),
        ({}, {"system_version": f"{ANIMALS}|1.0.0"}, "1.0.0"),
        ({"version": "1.2.0"}, {"system_version": f"{ANIMALS}|1.0.0"}, "1.2.0"),
        ({"version": "1.2.0"}, {"force_system_version": f"{ANIMALS}|1.0.0"}, "1.0.0"),
        ({}, {"check_system_version": f"{ANIMALS}|1.0.x"}, "1.0.0"),
    ],
)
def test_the_version_rules_choose(include: dict[str, str], rules: dict[str, str], expected: str) -> None:
    """Forced before named, named before default; a rule that was used is reported."""
    known = library(
        system("1.0.0", concept("dog")), system("1.2.0", concept("dog")), value_set("x", {**ALL, **include})
    )
    parameters = ask(known, "ValueSet", "expand", url=SETS + "x", **rules)["expansion"]["parameter"]
    assert {"name": "used-codesystem", "valueUri": f"{ANIMALS}|{expected}"} in parameters
    reported = [p["name"] for p in parameters if p["name"].endswith("system-version")]
    assert len(reported) == (1 if rules and expected != "1.2.0" else 0)


def test_a_version_check_that_fails_is_an_error() -> None:
    """The version found, the system and the version demanded are named."""
    known = library(system("1.0.0", concept("dog")), value_set("x", {**ALL, "version": "1.0.0"}))
    error = refused(known, "ValueSet", "expand", url=SETS + "x", check_system_version=f"{ANIMALS}|2.x")
    assert error.issues[0].code == "exception"
    assert "'1.0.0'" in error.text
    assert "'2.x'" in error.text


def test_what_is_missing_is_named_with_what_is_known() -> None:
    """Unknown system, version, value set, import and supplement."""
    known = world(value_set("x", {**ALL, "version": "9"}), value_set("y", {"valueSet": [SETS + "nowhere"]}))
    assert "Valid versions: 1.0.0" in refused(known, "ValueSet", "expand", url=SETS + "x").text
    assert "nowhere" in refused(known, "ValueSet", "expand", url=SETS + "y").text
    error = refused(known, "ValueSet", "expand", url=SETS + "none")
    assert (error.status, error.issues[0].code) == (404, "not-found")
    error = refused(world(value_set("z", ALL)), "ValueSet", "expand", url=SETS + "z", useSupplement="http://none")
    assert "http://none" in error.text


@pytest.mark.parametrize(
    ("kind", "operation", "asked", "told"),
    [
        ("ValueSet", "expand", {"url": f"{SETS}sett"}, f"Known is {SETS}set."),
        ("ValueSet", "expand", {"url": f"{SETS}set", "valueSetVersion": "9"}, f"Known versions of {SETS}set are 1."),
        ("ValueSet", "expand", {"url": "http://snomed.info/sct?fhir_vs=isa/1"}, "terminology load snomed"),
        ("CodeSystem", "lookup", {"system": f"{ICD10}s", "code": "x"}, f"Known is {ICD10}"),
        ("CodeSystem", "subsumes", {"system": ICD10, "version": "1999", "codeA": "x", "codeB": "x"}, "are 2026."),
        (
            "ConceptMap",
            "translate",
            {"url": "http://hl7.org/fhir/ConceptMap/cm", "system": "x", "code": "y"},
            "Known is",
        ),
    ],
)
def test_what_is_known_is_told_beside_the_fault(kind: str, operation: str, asked: dict[str, str], told: str) -> None:
    """A name that is near, the versions there are, or the loader; as diagnostics that programs pass over."""
    known = Library([Loose([value_set("set", {"system": ICD10}, version="1")]), shipped()])
    if "sett" in asked.get("url", ""):
        known = Library([known.layers[0]])
    error = refused(known, kind, operation, **asked)
    assert error.issues[-1].aside
    assert told in error.issues[-1].text


def test_a_context_names_the_binding_of_an_element() -> None:
    """http://hl7.org/fhir/R4/valueset-operation-expand.html, parameter context."""
    patient = "http://hl7.org/fhir/StructureDefinition/Patient"
    assert "female" in codes(ask(library(), "ValueSet", "expand", context=f"{patient}#Patient.gender"))
    for wrong in (f"{patient}#Patient.none", f"{patient}#Patient.birthDate", "http://example.org/none#x"):
        assert refused(library(), "ValueSet", "expand", context=wrong).status == 404


def test_a_filter_that_makes_no_sense_is_refused_with_what_is_known() -> None:
    """Unknown property, unknown operator, broken expression."""
    for row, text in (
        (filtered("wings", "=", "2"), "legs"),
        (filtered("concept", "near", "dog"), "is-a"),
        (filtered("code", "regex", "(["), "not valid"),
        (filtered("legs", "exists", "maybe"), "true or false"),
    ):
        assert text in refused(world(value_set("x", row)), "ValueSet", "expand", url=SETS + "x").text


@pytest.mark.parametrize(
    "operator", ["is-a", "descendent-of", "is-not-a", "generalizes", "child-of", "descendent-leaf"]
)
def test_a_branch_of_an_unknown_code_is_no_empty_one(operator: str) -> None:
    """The code and the version that lacks it are named; an implied value set is refused the same way."""
    known = world(value_set("x", filtered("concept", operator, "cat")))
    refusal = refused(known, "ValueSet", "expand", url=SETS + "x")
    assert (refusal.status, refusal.text) == (
        422,
        f"Unknown code 'cat' in the CodeSystem '{ANIMALS}' version '1.0.0'",
    )
    assert refused(known, "ValueSet", "expand", url=f"{ANIMALS}?fhir_vs=isa/cat").status == 422


def test_a_property_that_nobody_knows_is_refused() -> None:
    """By $expand, $lookup and $find-matches, with those that are known."""
    known = world(value_set("x", ALL))
    asked = {"name": "property", "part": [{"name": "code", "valueCode": "wings"}, {"name": "value", "valueCode": "2"}]}
    for error in (
        refused(known, "ValueSet", "expand", url=SETS + "x", property="wings"),
        refused(known, "CodeSystem", "lookup", system=ANIMALS, code="dog", property="wings"),
        refused(known, "CodeSystem", "find-matches", asked, system=ANIMALS),
    ):
        assert error.status == 400
        assert error.text.startswith(f"The property 'wings' is not known of {ANIMALS}; known are child, ")
        assert "legs" in error.text


def test_an_evil_expression_ends_in_time() -> None:
    """RE2 does not go back over what it has read (attack D17)."""
    known = library(system("1", concept("a" * 60)), value_set("x", filtered("code", "regex", "(a+)+b")))
    assert codes(ask(known, "ValueSet", "expand", url=SETS + "x")) == []


def test_pages_make_up_the_whole() -> None:
    """`offset` and `count` cut one order; `total` stays."""
    known = world(value_set("x", ALL))
    whole = codes(ask(known, "ValueSet", "expand", url=SETS + "x", excludeNested=True))
    pages = [ask(known, "ValueSet", "expand", url=SETS + "x", offset=at, count=1) for at in range(len(whole))]
    assert [c for page in pages for c in codes(page)] == whole
    assert {page["expansion"]["total"] for page in pages} == {4}


def test_too_many_codes_are_refused_with_a_hint() -> None:
    """The whole of ICD-10-CM is not sent at once."""
    error = refused(library(), "ValueSet", "expand", url=f"{ICD10}?fhir_vs")
    assert error.code == "too-costly"
    assert "'count'" in error.issues[1].text


def test_inactive_codes_stay_away_when_asked() -> None:
    """By the request, and by the value set itself."""
    known = world(value_set("x", ALL), value_set("active", ALL, compose={"inactive": False}))
    assert "bird" in codes(ask(known, "ValueSet", "expand", url=SETS + "x"))
    assert "bird" not in codes(ask(known, "ValueSet", "expand", url=SETS + "x", activeOnly=True))
    assert "bird" not in codes(ask(known, "ValueSet", "expand", url=SETS + "active"))


def test_a_list_of_an_unknown_system_is_shown_as_it_is() -> None:
    """The codes a value set lists need no code system to be listed."""
    row = {"system": "http://unknown.example", "concept": [{"code": "a", "display": "A"}]}
    rows = ask(library(value_set("x", row)), "ValueSet", "expand", url=SETS + "x")["expansion"]["contains"]
    assert rows == [{"system": "http://unknown.example", "code": "a", "display": "A"}]


def test_a_list_is_believed_where_its_system_is_here_in_part() -> None:
    """What the fragment lacks is shown as the value set has it, and is a member."""
    row = {"system": ANIMALS, "concept": [{"code": "dog"}, {"code": "emu", "display": "Emu"}]}
    known = library(system("1", concept("dog"), content="fragment"), value_set("x", row))
    rows = ask(known, "ValueSet", "expand", url=SETS + "x")["expansion"]["contains"]
    assert [(row["code"], row["display"]) for row in rows] == [("dog", "Dog"), ("emu", "Emu")]
    answer = ask(known, "ValueSet", "validate-code", url=SETS + "x", code="emu", system=ANIMALS)
    assert answer["parameter"][0] == {"name": "result", "valueBoolean": True}
    answer = ask(known, "ValueSet", "validate-code", url=SETS + "x", code="owl", system=ANIMALS)
    assert answer["parameter"][0] == {"name": "result", "valueBoolean": False}


def test_a_grammar_shows_a_sample_and_says_so() -> None:
    """`valueset-unclosed` marks that more codes belong to the set."""
    found = ask(library(), "ValueSet", "expand", url="http://hl7.org/fhir/ValueSet/mimetypes")["expansion"]
    assert found["extension"][0] == {
        "url": "http://hl7.org/fhir/StructureDefinition/valueset-unclosed",
        "valueBoolean": True,
    }
    assert "total" not in found


def test_excluded_systems_are_left_out() -> None:
    """`exclude-system` of the request."""
    known = library(system("1", concept("dog")), value_set("x", ALL, {"system": "urn:iso:std:iso:4217"}))
    assert codes(ask(known, "ValueSet", "expand", url=SETS + "x", exclude_system="urn:iso:std:iso:4217")) == ["dog"]


@pytest.mark.parametrize(
    ("resource", "place"),
    [
        ({"resourceType": "ValueSet", "compose": {"include": {"system": "x"}}}, "ValueSet.compose.include"),
        ({"resourceType": "ValueSet", "compose": []}, "ValueSet.compose"),
        ({"resourceType": "CodeSystem", "url": 1}, "CodeSystem.url"),
        ({"resourceType": "CodeSystem", "concept": ["x"]}, "CodeSystem.concept[0]"),
        ({"resourceType": "CodeSystem", "concept": [{"code": "a", "concept": [{"code": 2}]}]}, "concept[0].code"),
        ({"resourceType": "ConceptMap", "group": [{"element": 1}]}, "ConceptMap.group[0].element"),
        ({"resourceType": "Patient"}, "Patient"),
    ],
)
def test_a_malformed_definition_is_told(resource: dict, place: str) -> None:  # type: ignore[type-arg]
    """With its place, and never as a fault of the server."""
    along = {"name": "tx-resource", "resource": resource}
    error = refused(world(), "ValueSet", "expand", along, url=SETS + "x")
    assert error.status == 400
    assert place in error.text
