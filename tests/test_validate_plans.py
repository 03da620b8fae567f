"""The short ways of validation say what the long ways say: plans, settled rules, compiled conditions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from profiles.fhirpath import Environment, Node
from profiles.fhirpath.narrative import is_plain, narrative_faults
from profiles.fhirpath.settled import Open, settled
from profiles.json import parse
from profiles.model import INVARIANTS, PRIMITIVES
from profiles.outcome import FhirError, Issue
from profiles.validate import Library, Options, validate
from profiles.validate.checks import all_checks, run, switches_of
from profiles.validate.invariants import base_rules, expression_for, with_condition
from profiles.validate.plans import check_all
from profiles.validate.report import Report
from profiles.validate.spots import Json, Spot, everything, whole
from tests import official

ALL = Options(best_practice=True, forbid_html=True, unknown_extensions="warning")
EACH = 3  # of a shape, so that 2.7 million places are seen in seconds
LARGE = 500_000  # bytes


def _long_way(resource: Json, library: Library) -> list[Issue]:
    report = Report(library, ALL)
    for spot in everything(whole(resource)):
        run(report, all_checks(spot.type, spot.element, switches_of(ALL)), spot)
    return report.issues


def _short_way(resource: Json, library: Library) -> list[Issue]:
    report = Report(library, ALL)
    check_all(report, resource)
    return report.issues


def test_a_plan_leaves_out_nothing_that_has_issues() -> None:
    library = Library()
    for resource in official.resources():
        assert _short_way(resource, library) == _long_way(resource, library), resource["id"]


def _verdict(call: object) -> bool | str | None:
    try:
        found = call()  # type: ignore[operator]
    except FhirError:
        return "error"
    return found[0].value if found else None


def _disagreements(resources: Iterator[Json] | list[Json]) -> Iterator[tuple[str, str, object]]:
    """Rules that a short way answers otherwise than the general evaluator of FHIRPath does."""
    met: Counter[tuple[str, str, tuple[str, ...]]] = Counter()
    for resource in resources:
        if any(i.severity == "error" for i in validate(resource, Library())[:1]):
            continue
        for spot in everything(whole(resource)):
            shape = tuple(spot.value) if isinstance(spot.value, dict) else ()
            for each in base_rules(spot.type, spot.element):
                key, rule, one = each.key, each.invariant, with_condition(each, spot.type)
                met[key, spot.type, shape] += 1
                if met[key, spot.type, shape] > EACH:
                    continue
                expression, env = expression_for(rule.expression, spot.type), _environment(spot)
                wanted = _verdict(lambda e=expression, s=spot, n=env: e._general(s.node, n))  # type: ignore[misc]
                known = _settled(spot, rule.expression)
                short = _verdict(lambda e=expression, s=spot, n=env: e(s.node, n))  # type: ignore[misc]
                sure = one.is_sure(spot)
                # ref-1 has no answer for a reference by identifier alone, which is meant as true.
                is_wrong = sure and wanted is not (None if key == "ref-1" and "reference" not in spot.value else True)
                if short != wanted or known not in (wanted, Open.VALUES, Open.RISKY) or is_wrong:
                    yield key, spot.path, (wanted, short, known, sure)


def _environment(spot: Spot) -> Environment:
    return Environment(resource=Node(spot.resource, spot.resource["resourceType"]), root=spot.root)


def _settled(spot: Spot, expression: str) -> object:
    return Open.VALUES if spot.type in PRIMITIVES else settled(expression, spot.type, frozenset(spot.value))


def test_short_ways_of_rules_say_what_the_general_evaluator_says() -> None:
    assert list(_disagreements(official.resources())) == []


@pytest.mark.slow
@pytest.mark.skipif(official.PACKAGE is None, reason="FHIR_EXAMPLES does not name the official package")
def test_all_official_files_are_judged_alike_both_ways() -> None:
    bodies = [body for _, body in official.everything() if len(body) < LARGE]
    library = Library()
    for body in bodies:
        assert _short_way(parse(body), library) == _long_way(parse(body), library)
    assert list(_disagreements(parse(body) for body in bodies)) == []


@pytest.mark.parametrize(
    ("rule", "kind", "keys", "verdict"),
    [
        ("dom-3", "Patient", "name", True),  # through where() and trace() of what is not there
        ("per-1", "Period", "start", True),
        ("ext-1", "Extension", "url valueString", True),
        ("ext-1", "Extension", "url valueString extension", False),
        ("ext-1", "Extension", "url _valueString", True),  # a primitive without value is there
        ("bdl-8", "Bundle.entry", "resource", None),
        ("dom-6", "Patient", "text", Open.VALUES),
        ("eld-2", "ElementDefinition", "min max", Open.RISKY),  # toInteger() might be an error
        ("eld-2", "ElementDefinition", "max", True),
    ],
)
def test_keys_settle_a_rule(rule: str, kind: str, keys: str, verdict: object) -> None:
    assert settled(INVARIANTS[rule].expression, kind, frozenset(keys.split())) is verdict


@pytest.mark.parametrize(
    "inside",
    [
        '<p title="a style=" style="behavior:x">a</p>',
        '<p style="b&#101;havior:x">a</p>',
        '<a href="&#106;avascript:x">a</a>',
        '<a href="java script:x">a</a>',
        '<img src="data:text/html,x"/>',
        '<p onclick="x">a</p>',
        '<p xmlns="urn:x">a</p>',
        "<script>a</script>",
        "<!-- a -->",
        "&#160;",
        "<p>a</b>",
    ],
)
def test_a_narrative_with_a_fault_is_not_taken_for_a_plain_one(inside: str) -> None:
    assert narrative_faults(f'<div xmlns="http://www.w3.org/1999/xhtml">{inside}</div>')


@pytest.mark.parametrize(
    "text",
    [
        "<div>no namespace</div>",
        '<div xmlns="http://www.w3.org/1999/xhtml"><p title="> x"/></div>',
        '<div xmlns="http://www.w3.org/1999/xhtml"><!-- > x --></div>',
    ],
)
def test_a_narrative_without_namespace_or_text_is_not_plain(text: str) -> None:
    """What looks like text may stand in an attribute or a comment."""
    assert narrative_faults(text)


def test_narratives_of_the_official_examples_are_plain() -> None:
    assert is_plain(
        '<div xmlns="http://www.w3.org/1999/xhtml" class="a"><!-- b --><a href="x.html#y">&lt;c</a><br/>'
        '<img style="background: url(data: image/png;base64,AA)" alt="1 > 0" src="data: image/png;base64,AA"/></div>'
    )
