"""Answers agree with each other: expand with validate-code, and each way to ask with every other.

http://hl7.org/fhir/R4/terminology-service.html: a code is in a value set if and only if its expansion has it.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiles.outcome import FhirError
from tests.terminology_world import ANIMALS, SETS, ask, concept, library, messages, system, value, value_set

Json = dict[str, Any]
FOODS = "http://example.org/foods"
COLOURS = "http://example.org/colours"
UNKNOWN = "http://example.org/unknown"


def has(code: str, kind: str, given: Any) -> Json:
    """A concept's property."""
    return {"property": [{"code": code, f"value{kind}": given}]}


KINDS = {"inactive": "boolean", "status": "code", "notSelectable": "boolean", "legs": "integer"}
URI = "http://hl7.org/fhir/concept-properties#"
PROPERTIES = [{"code": code, "uri": URI + code, "type": kind} for code, kind in KINDS.items()]
OLD = system(
    "1.0.0",
    concept(
        "animal",
        concept("dog", **has("legs", "Integer", 4)),
        concept("cat", **has("legs", "Integer", 4)),
        concept("dodo", **has("inactive", "Boolean", True)),
        concept("emu", **has("status", "Code", "retired")),
        concept("ox", **has("status", "Code", "deprecated")),
        **has("notSelectable", "Boolean", True),
    ),
    concept("rock"),
    property=PROPERTIES,
)
NEW = system(
    "1.2.0",
    concept("animal", concept("dog", display="Hound", **has("legs", "Integer", 4)), concept("bat")),
    concept("rock"),
    property=PROPERTIES,
)
WORLD = [
    OLD,
    NEW,
    system("0.1.0", concept("apple"), concept("rock")) | {"url": FOODS},
    system("1", concept("Red"), concept("Blue"), caseSensitive=False) | {"url": COLOURS},
]
V1, V2, ANY = {"system": ANIMALS, "version": "1.0.0"}, {"system": ANIMALS, "version": "1.2.0"}, {"system": ANIMALS}
DOG = {"concept": [{"code": "dog"}]}


def filtered(name: str, operator: str, text: str) -> Json:
    """An include by one filter."""
    return {**V1, "filter": [{"property": name, "op": operator, "value": text}]}


INCLUDES: dict[str, list[Json]] = {
    "all": [ANY],
    "first": [V1],
    "second": [V2],
    "wild": [{**ANY, "version": "1.x"}],
    "both": [V1, V2],
    "two": [ANY, {"system": FOODS}],
    "listed": [{**ANY, "concept": [{"code": "dog"}, {"code": "rock"}, {"code": "nope"}]}],
    "listed-first": [{**V1, "concept": [{"code": c} for c in ("dog", "dodo", "emu", "animal")]}],
    "isa": [filtered("concept", "is-a", "animal")],
    "below": [filtered("concept", "descendent-of", "animal")],
    "not-isa": [filtered("concept", "is-not-a", "animal")],
    "above": [filtered("concept", "generalizes", "dog")],
    "legs": [filtered("legs", "=", "4")],
    "legless": [filtered("legs", "exists", "false")],
    "in": [filtered("code", "in", "dog,cat,dodo")],
    "not-in": [filtered("code", "not-in", "dog,cat")],
    "regex": [filtered("code", "regex", "d.*")],
    "children": [filtered("parent", "in", "animal,rock")],
    "imported": [{"valueSet": [SETS + "listed-first"]}],
    "imported-version": [{"valueSet": [SETS + "listed-first|5"]}],
    "both-imported": [{"valueSet": [SETS + "listed-first", SETS + "legs"]}],
    "system-and-import": [{**V1, "valueSet": [SETS + "listed"]}],
    "import-or-system": [{"valueSet": [SETS + "listed-first"]}, {"system": FOODS}],
    "colours": [{"system": COLOURS}],
    "colour": [{"system": COLOURS, "concept": [{"code": "RED"}]}],
    "colour-in": [{"system": COLOURS, "filter": [{"property": "code", "op": "in", "value": "red,x"}]}],
}
EXCLUDES: dict[str, tuple[list[Json], Json]] = {
    "less-a-code": ([V1], {**ANY, **DOG}),
    "less-a-code-of-another-version": ([V1], {**V2, **DOG}),
    "both-less-a-code-of-one": ([V1, V2], {**V1, **DOG}),
    "less-a-branch": ([V1], {**ANY, "filter": filtered("concept", "is-a", "dog")["filter"]}),
    "less-a-set": ([V1], {"valueSet": [SETS + "listed"]}),
    "less-a-set-of-the-system": ([V1], {**ANY, "valueSet": [SETS + "listed"]}),
    "less-a-system": ([ANY, {"system": FOODS}], {"system": FOODS}),
    "less-a-colour": ([{"system": COLOURS}], {"system": COLOURS, "concept": [{"code": "blue"}]}),
}
STORED = {
    "resourceType": "ValueSet",
    "url": SETS + "expanded",
    "status": "active",
    "expansion": {
        "timestamp": "2026-01-01",
        "contains": [
            {**ANY, "code": "dog"},
            {**ANY, "code": "animal", "abstract": True, "contains": [{**ANY, "code": "bat", "inactive": True}]},
        ],
    },
}
VALUE_SETS = [
    *(value_set(name, *rows, version="5") for name, rows in INCLUDES.items()),
    *(value_set(name, *rows, exclude=[row], version="5") for name, (rows, row) in EXCLUDES.items()),
    value_set("active", V1, compose={"inactive": False}, version="5"),
    value_set("inactive-too", V1, compose={"inactive": True}, version="5"),
    STORED,
]
KNOWN = library(*WORLD, *VALUE_SETS)
CODES = [
    *((ANIMALS, code) for code in ("animal", "dog", "cat", "dodo", "emu", "ox", "bat", "rock", "nope", "Dog")),
    *((FOODS, code) for code in ("apple", "rock")),
    *((COLOURS, code) for code in ("Red", "red", "RED", "blue")),
]
RULES: list[Json] = [
    {},
    {"activeOnly": True},
    {"activeOnly": False},
    *(
        {f"{mode}system_version": f"{ANIMALS}|{version}"}
        for mode in ("force_", "", "check_")
        for version in ("1.0.0", "1.2.0", "1.x")
    ),
]


def attempt(kind: str, *rows: Json, known: Any = KNOWN, **simple: Any) -> Json | FhirError:
    """The answer or the refusal."""
    try:
        return ask(known, "ValueSet", kind, *rows, **simple)
    except FhirError as error:
        return error


def listed(rows: list[Json]) -> set[tuple[str, str]]:
    """System and folded code of every entry, as caseless systems mean them."""
    found = {(row["system"], folded(row["system"], row["code"])) for row in rows}
    return found.union(*(listed(row.get("contains", [])) for row in rows))


def folded(url: str, code: str) -> str:
    """The code as it is compared."""
    return code.lower() if url == COLOURS else code


@pytest.mark.parametrize("rules", RULES, ids=str)
@pytest.mark.parametrize("resource", VALUE_SETS, ids=lambda r: r["url"].removeprefix(SETS))
def test_expand_and_validate_code_agree(resource: Json, rules: Json) -> None:
    """A code is valid exactly where the expansion has it, whatever the versions, excludes and statuses."""
    expanded = attempt("expand", url=resource["url"], **rules)
    if isinstance(expanded, FhirError):
        # A checked version that one include misses spoils the expansion, not the codes of the others.
        assert "check_system_version" in rules
        return
    inside = listed(expanded["expansion"].get("contains", []))
    for url, code in CODES:
        answer = attempt("validate-code", url=resource["url"], system=url, code=code, **rules)
        assert not isinstance(answer, FhirError)
        assert value(answer, "result") is ((url, folded(url, code)) in inside), (url, code, messages(answer))


OTHERS: list[Json] = [
    {"abstract": False},
    {"lenient_display_validation": True},
    {"valueset_membership_only": True},
    {"displayLanguage": "de"},
    {"inferSystem": True},
]
TOLD = (
    *("result", "code", "system", "version", "display", "inactive", "status", "normalized-code"),
    *("x-caused-by-unknown-system", "x-unknown-system", "message"),
)


def told(answer: Json | FhirError) -> Any:
    """What an answer says, but for the places of its issues."""
    if isinstance(answer, FhirError):
        return answer.status, answer.text
    issues = (value(answer, "issues") or {}).get("issue", [])
    return [value(answer, name) for name in TOLD], [(i["severity"], i["code"], i["details"]) for i in issues]


@settings(max_examples=300, deadline=None)
@given(
    resource=st.sampled_from(VALUE_SETS),
    coded=st.sampled_from([*CODES, (UNKNOWN, "x")]),
    version=st.sampled_from([None, "1.0.0", "1.2.0", "9"]),
    display=st.sampled_from([None, "right", "wrong"]),
    more=st.sampled_from([*RULES, *OTHERS]),
)
def test_every_way_to_ask_gets_the_same_answer(
    resource: Json, coded: tuple[str, str], version: str | None, display: str | None, more: Json
) -> None:
    """By code, coding and codeableConcept; the value set by url, by itself and sent along."""
    of, code = coded
    text = {None: None, "right": code.capitalize(), "wrong": "Wrong"}[display]
    extra = {name: given for name, given in (("version", version), ("display", text)) if given}
    coding = {"system": of, "code": code, **extra}
    row = {"name": "coding", "valueCoding": coding}
    named = {("systemVersion" if name == "version" else name): given for name, given in extra.items()}
    url = resource["url"]
    first = told(attempt("validate-code", row, url=url, **more))
    assert told(attempt("validate-code", url=url, system=of, code=code, **named, **more)) == first
    assert told(attempt("validate-code", row, {"name": "valueSet", "resource": resource}, **more)) == first
    along = [{"name": "tx-resource", "resource": r} for r in VALUE_SETS]
    assert told(attempt("validate-code", row, *along, known=library(*WORLD), url=url, **more)) == first
    concept = {"name": "codeableConcept", "valueCodeableConcept": {"coding": [coding]}}
    alone = told(attempt("validate-code", concept, url=url, **more))
    assert alone == first if first[0][0] is True else alone[0][0] is first[0][0]


@pytest.mark.parametrize("turned", [False, True])
def test_every_inactive_coding_is_told_of(turned: bool) -> None:
    """In whatever order a CodeableConcept holds its codings."""
    codings = [{**ANY, "code": "dodo"}, {**ANY, "code": "emu"}, {**ANY, "code": "dog"}]
    row = {"name": "codeableConcept", "valueCodeableConcept": {"coding": codings[::-1] if turned else codings}}
    answer = ask(KNOWN, "ValueSet", "validate-code", row, url=SETS + "first")
    assert value(answer, "result") is True
    assert messages(answer) == ["INACTIVE_CONCEPT_FOUND", "INACTIVE_CONCEPT_FOUND"]
    assert value(answer, "inactive") is (True if turned else None)


def test_what_is_said_of_a_code_is_of_the_version_that_was_looked_in() -> None:
    """A value set of an older version does not show the display of a newer one."""
    answer = ask(KNOWN, "ValueSet", "validate-code", url=SETS + "below", system=ANIMALS, code="rock")
    assert (value(answer, "result"), value(answer, "version")) == (False, "1.0.0")
    assert (
        value(ask(KNOWN, "ValueSet", "validate-code", url=SETS + "first", system=ANIMALS, code="bat"), "display")
        is None
    )


@pytest.mark.parametrize("name", ["first", "two", "less-a-code", "imported", "regex", "expanded"])
def test_pages_make_up_the_whole(name: str) -> None:
    """Across includes and excludes, each code once and in the same order."""
    whole = ask(KNOWN, "ValueSet", "expand", url=SETS + name, excludeNested=True)["expansion"]
    pages: list[Json] = []
    for offset in range(0, whole["total"] + 2, 2):
        page = ask(KNOWN, "ValueSet", "expand", url=SETS + name, offset=offset, count=2)["expansion"]
        assert (page["total"], page["offset"]) == (whole["total"], offset)
        pages += page.get("contains", [])
    assert pages == whole["contains"]


@pytest.mark.parametrize("version", [None, "1.0.0", "1.2.0", "1.x", "9"])
@pytest.mark.parametrize("display", [None, "Wrong"])
def test_a_code_system_is_the_value_set_of_all_its_codes(version: str | None, display: str | None) -> None:
    """CodeSystem/$validate-code by each form, and ValueSet/$validate-code with nothing but the system."""
    for url, code in [*CODES, (UNKNOWN, "x")]:
        extra = {name: given for name, given in (("version", version), ("display", display)) if given}
        coding = {"name": "coding", "valueCoding": {"system": url, "code": code, **extra}}
        include = {"system": url, **({"version": version} if version else {})}
        whole = {"name": "valueSet", "resource": value_set("whole", include)}
        answer = ask(KNOWN, "CodeSystem", "validate-code", url=url, code=code, **extra)
        for other in (
            ask(KNOWN, "CodeSystem", "validate-code", coding, url=url),
            ask(KNOWN, "CodeSystem", "validate-code", coding),
            ask(KNOWN, "ValueSet", "validate-code", coding, whole),
        ):
            for name in ("result", "code", "system", "version", "display", "status", "inactive", "normalized-code"):
                assert value(other, name) == value(answer, name), (url, code, name)


OUTDATED = {
    "url": "http://hl7.org/fhir/StructureDefinition/structuredefinition-standards-status",
    "valueCode": "deprecated",
}
NAMED = library(
    system(
        "1",
        concept("dog", designation=[{"language": "de", "value": "Hund"}, {"language": "fr-CA", "value": "Chien"}]),
        concept("cat", designation=[{"language": "de", "value": "Katze", "extension": [OUTDATED]}]),
        concept("rock"),
    )
)
LANGUAGES = ["en", "de", "de-CH", "fr", "fr-CA", "it", "de,en", "it,*", "en,*;q=0", "de;q=0.5,en;q=0.8", "*"]


@pytest.mark.parametrize("by_header", [False, True])
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_display_that_is_shown_is_a_valid_one(language: str, by_header: bool) -> None:
    """The same of $expand, $lookup and $validate-code, and none of them shows what $validate-code refuses."""
    asked: Any = {"header": language} if by_header else {"displayLanguage": language}
    whole = {"name": "valueSet", "resource": value_set("whole", ANY)}
    for row in ask(NAMED, "ValueSet", "expand", whole, **asked)["expansion"]["contains"]:
        code = {"code": row["code"]}
        shown = value(ask(NAMED, "CodeSystem", "lookup", system=ANIMALS, **code, **asked), "display")
        assert value(ask(NAMED, "CodeSystem", "validate-code", url=ANIMALS, **code, **asked), "display") == shown
        assert row.get("display", shown) == shown
        checked = ask(NAMED, "CodeSystem", "validate-code", url=ANIMALS, **code, display=shown, **asked)
        assert value(checked, "result") is True, value(checked, "message")
