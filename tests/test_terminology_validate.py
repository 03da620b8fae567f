"""$validate-code: membership, versions, displays, case and status."""

from __future__ import annotations

from typing import Any

import pytest

from profiles.outcome import FhirError
from terminology.request import of_resource
from tests.terminology_world import ANIMALS, SETS, ask, concept, library, messages, refused, system, value, value_set

ALL = {"system": ANIMALS}


def coding(code: str = "dog", **more: str) -> dict[str, Any]:
    return {"name": "coding", "valueCoding": {"system": ANIMALS, "code": code, **more}}


def check(known: Any, *rows: Any, name: str = "x", **simple: Any) -> Any:
    return ask(known, "ValueSet", "validate-code", *rows, url=SETS + name, **simple)


@pytest.mark.parametrize(
    ("include", "given", "result", "expected"),
    [
        ({}, None, True, []),
        ({}, "1.0.0", True, []),
        ({}, "1.2.0", True, []),
        ({}, "2.4.0", False, ["VALUESET_VALUE_MISMATCH_DEFAULT", "UNKNOWN_CODESYSTEM_VERSION"]),
        ({"version": "1.0.0"}, "1.0.0", True, []),
        ({"version": "1.0.0"}, "1.2.0", False, ["VALUESET_VALUE_MISMATCH"]),
        ({"version": "1.0.0"}, "2.4.0", False, ["VALUESET_VALUE_MISMATCH", "UNKNOWN_CODESYSTEM_VERSION"]),
        ({"version": "1.x.x"}, "1.0.0", True, []),
        ({"version": "1.x.x"}, None, True, []),
        ({"version": "3.0.0"}, None, False, ["UNKNOWN_CODESYSTEM_VERSION"]),
        ({"version": "3.0.0"}, "1.0.0", False, ["VALUESET_VALUE_MISMATCH", "UNKNOWN_CODESYSTEM_VERSION"]),
    ],
)
def test_the_version_of_the_value_and_of_the_set(
    include: dict[str, str], given: str | None, result: bool, expected: list[str]
) -> None:
    """What the include names, what the value names, and what there is."""
    known = library(
        system("1.0.0", concept("dog")), system("1.2.0", concept("dog")), value_set("x", {**ALL, **include})
    )
    answer = check(known, coding(**({"version": given} if given else {})))
    assert value(answer, "result") is result
    assert messages(answer) == expected


def test_forced_versions_are_told_as_such() -> None:
    """The version that results is neither the include's nor the value's."""
    known = library(system("1.0.0", concept("dog")), system("1.2.0", concept("dog")), value_set("x", ALL))
    answer = check(known, coding(version="1.0.0"), force_system_version=f"{ANIMALS}|1.2.0")
    assert messages(answer) == ["VALUESET_VALUE_MISMATCH_CHANGED"]
    checked = check(known, coding(), check_system_version=f"{ANIMALS}|2.x", system_version=f"{ANIMALS}|1.0.0")
    assert messages(checked) == ["VALUESET_VERSION_CHECK"]


def test_a_code_of_any_included_version_is_found() -> None:
    """What the first include says of a code matters only where no other has it."""
    known = library(
        system("1.0.0", concept("dog")),
        system("2.0.0", concept("dog"), concept("cat")),
        value_set("x", {**ALL, "version": "1.0.0"}, {**ALL, "version": "2.0.0"}),
    )
    for rows in (coding("cat"), coding("cat", version="2.0.0"), coding("dog", version="2.0.0"), coding("dog")):
        assert value(check(known, rows), "result") is True


def test_case_counts_only_where_the_system_says_so() -> None:
    """The right code is told; the value is valid all the same."""
    strict = library(system("1", concept("dog")), value_set("x", ALL))
    assert value(check(strict, coding("DOG")), "result") is False
    loose = library(system("1", concept("dog"), caseSensitive=False), value_set("x", ALL))
    answer = check(loose, coding("DOG"))
    assert value(answer, "result") is True
    assert value(answer, "normalized-code") == "dog"
    assert messages(answer) == ["CODE_CASE_DIFFERENCE"]


def test_a_code_that_is_excluded_is_not_in() -> None:
    """By list, by filter, by import."""
    tree = concept("animal", concept("dog", concept("poodle")), concept("cat"))
    row = {**ALL, "filter": [{"property": "concept", "op": "is-a", "value": "dog"}]}
    known = library(
        system("1", tree),
        value_set("dogs", row),
        value_set("x", ALL, exclude=[{**ALL, "concept": [{"code": "dog"}]}]),
        value_set("y", ALL, exclude=[row]),
        value_set("z", ALL, exclude=[{"valueSet": [SETS + "dogs"]}]),
    )
    for name, expected in (("x", {"poodle", "cat"}), ("y", {"cat"}), ("z", {"cat"})):
        inside = {c for c in ("dog", "poodle", "cat") if value(check(known, coding(c), name=name), "result")}
        assert inside == expected


def test_inactive_codes_are_told_and_refused_when_asked() -> None:
    """`inactive` and `status` are told; `activeOnly` makes it an error."""
    retired = concept("dodo", property=[{"code": "status", "valueCode": "retired"}])
    known = library(system("1", retired), value_set("x", ALL), value_set("active", ALL, compose={"inactive": False}))
    answer = check(known, coding("dodo"))
    assert (value(answer, "result"), value(answer, "inactive"), value(answer, "status")) == (True, True, "retired")
    assert "retired and inactive" in value(answer, "message")
    for refusing in (check(known, coding("dodo"), activeOnly=True), check(known, coding("dodo"), name="active")):
        assert value(refusing, "result") is False
        assert "STATUS_CODE_WARNING_CODE" in messages(refusing)


def test_abstract_codes_are_refused_where_the_caller_says_so() -> None:
    """`abstract=false` of the request."""
    abstract = concept("animal", property=[{"code": "notSelectable", "valueBoolean": True}])
    known = library(system("1", abstract), value_set("x", ALL))
    assert value(check(known, coding("animal")), "result") is True
    answer = check(known, coding("animal"), abstract=False)
    assert value(answer, "result") is False
    assert "ABSTRACT_CODE_NOT_ALLOWED" in messages(answer)


def test_a_fragment_may_have_the_code_elsewhere() -> None:
    """A warning, and valid."""
    known = library(system("1", concept("dog"), content="fragment"), value_set("x", ALL))
    answer = check(known, coding("cat"))
    assert value(answer, "result") is True
    assert messages(answer) == ["UNKNOWN_CODE_IN_FRAGMENT"]


@pytest.mark.parametrize(
    ("status", "extra", "expected"),
    [
        ("draft", {}, "MSG_DRAFT"),
        ("retired", {}, "MSG_RETIRED"),
        ("active", {"experimental": True}, "MSG_EXPERIMENTAL"),
    ],
)
def test_the_standing_of_a_definition_is_told(status: str, extra: dict[str, Any], expected: str) -> None:
    """A hint, not part of the message."""
    known = library(system("1", concept("dog"), **{"status": status, **extra}), value_set("x", ALL))
    answer = check(known, coding())
    assert messages(answer) == [expected]
    assert value(answer, "message") is None


def test_a_code_without_system_needs_permission_to_infer() -> None:
    """`inferSystem`, or the whole request is refused."""
    known = library(system("1", concept("dog")), value_set("x", ALL))
    assert refused(known, "ValueSet", "validate-code", url=SETS + "x", code="dog").status == 400
    answer = check(known, code="dog", inferSystem=True)
    assert (value(answer, "result"), value(answer, "system")) == (True, ANIMALS)


def test_one_good_coding_makes_a_concept_good() -> None:
    """The coding that is in the set is the one told."""
    known = library(system("1", concept("dog")), value_set("x", ALL))
    row = {"coding": [{"system": "urn:iso:std:iso:4217", "code": "EUR"}, {"system": ANIMALS, "code": "dog"}]}
    answer = check(known, {"name": "codeableConcept", "valueCodeableConcept": row})
    assert (value(answer, "result"), value(answer, "code")) == (True, "dog")


def test_unknown_things_are_never_valid() -> None:
    """Unknown value set 404, unknown system and unknown code `false` with a text that names them."""
    known = library(system("1", concept("dog")), value_set("x", ALL))
    assert refused(known, "ValueSet", "validate-code", coding(), url=SETS + "none").status == 404
    answer = ask(known, "CodeSystem", "validate-code", url="http://none", code="x")
    assert value(answer, "result") is False
    assert "http://none" in value(answer, "message")
    assert "'cat'" in value(ask(known, "CodeSystem", "validate-code", url=ANIMALS, code="cat"), "message")


@pytest.mark.parametrize(
    "row",
    [
        {"name": "coding", "valueCoding": "dog"},
        {"name": "coding", "valueCoding": {"system": 1, "code": "dog"}},
        {"name": "codeableConcept", "valueCodeableConcept": {"coding": {}}},
        "coding",
    ],
)
def test_a_malformed_coding_is_told(row: Any) -> None:
    """400 with its place."""
    with pytest.raises(FhirError) as refusal:
        of_resource({"resourceType": "Parameters", "parameter": [row]})
    assert "Parameters.parameter[0]" in refusal.value.text
