"""SMART App Launch 2.2, "Scopes": parsing, coverage and negotiation."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_auth import scopes
from smart_auth.scopes import Scope, Scopes

TYPES = frozenset({"Patient", "Observation", "Condition"})
LAB = "http://terminology.hl7.org/CodeSystem/observation-category|laboratory"


@pytest.mark.parametrize(
    ("text", "context", "kind", "verbs"),
    [
        ("patient/Observation.rs", "patient", "Observation", "rs"),
        ("user/*.cruds", "user", "*", "cruds"),
        ("system/Patient.c", "system", "Patient", "c"),
        ("patient/Observation.read", "patient", "Observation", "rs"),
        ("patient/Observation.write", "patient", "Observation", "cud"),
        ("patient/*.*", "patient", "*", "cruds"),
    ],
)
def test_scopes_clinical_scope_syntax(text: str, context: str, kind: str, verbs: str) -> None:
    """Version 1 and 2 scopes are read with the meaning of version 2 and written back as asked."""
    scope = scopes.parse_scope(text, TYPES)
    assert scope is not None
    assert (scope.context, scope.type, scope.verbs, scope.text) == (context, kind, verbs, text)


@pytest.mark.parametrize(
    "text",
    [
        "patient/Observation.dus",
        "patient/Observation.read.write",
        "patient/observation.rs",
        "patient/*.*extra",
        "patient/Observation.",
        "patient/Observation.rsx",
        "patient/Nothing.rs",
        "Patient/Observation.rs",
        "patient/Observation.rs?",
        "patient/Observation.rs?category",
        "patient/Observation.rs?=x",
        "patient/Observation.rr",
        "group/Observation.rs",
        "patient/Observation.rs\n",
        "patient/Ob\u017fervation.rs",
    ],
)
def test_s03_undefined_scopes_are_never_broadened(text: str) -> None:
    """A scope that is not exactly one is unknown, not the nearest one."""
    assert scopes.parse_scope(text, TYPES) is None


def test_s03_a_scope_bomb_is_refused_at_once() -> None:
    """10,000 scopes and a megabyte of scope are refused unread; an ordinary request is not."""
    begin = time.process_time()
    assert scopes.parse(" ".join(f"patient/Observation.rs?code=c{i}" for i in range(10_000))) is None
    assert scopes.parse("x" * 1_000_000) is None
    assert time.process_time() - begin < 0.05
    assert scopes.parse("launch openid patient/*.rs") is not None


def test_scopes_finer_grained_constraints() -> None:
    """Search parameters after `?` are clauses, sorted and without repeats; the text keeps its form."""
    scope = scopes.parse_scope(f"patient/Observation.rs?category={LAB}&code=a%7Cb&code=a%7Cb")
    assert scope is not None
    assert scope.clauses == (("category", LAB), ("code", "a|b"))
    again = scopes.parse_scope(scope.canonical)
    assert again is not None
    assert again.clauses == scope.clauses


def test_scopes_granted_is_the_meet_of_request_and_registration() -> None:
    """A wildcard request meets what is registered; verbs, types and clauses only narrow."""
    asked = scopes.parse("openid launch/patient offline_access patient/*.cruds patient/Observation.rs nonsense")
    allowed = scopes.parse(f"openid launch/patient patient/Patient.rs patient/Observation.rs?category={LAB}")
    assert asked is not None
    assert allowed is not None
    granted = scopes.negotiate(asked, allowed)
    assert granted.plain == ("openid", "launch/patient")
    assert {s.text for s in granted.clinical} == {"patient/Patient.rs", f"patient/Observation.rs?category={LAB}"}
    assert granted.unknown == ()


def test_scopes_v1_comes_back_as_v1() -> None:
    """SHOULD return v1 scopes when v1 scopes are requested and granted; a narrowed one comes back in v2."""
    allowed = Scopes((Scope("patient", "*", "rs"),))
    asked = scopes.parse("patient/Observation.read patient/Condition.*")
    assert asked is not None
    assert scopes.negotiate(asked, allowed).text == "patient/Observation.read patient/Condition.rs"


def test_scopes_a_clause_nobody_can_answer_is_dropped() -> None:
    """A granular scope that the search engine cannot decide is not granted without its filter."""
    asked = scopes.parse("patient/Observation.rs?nonsense=1 patient/Observation.rs?code=x")
    assert asked is not None
    granted = scopes.negotiate(
        asked, Scopes((Scope("patient", "*", "cruds"),)), answerable=lambda _t, pairs: dict(pairs).keys() == {"code"}
    )
    assert granted.text == "patient/Observation.rs?code=x"


def test_o17_refresh_may_narrow_but_not_widen() -> None:
    """RFC 6749 §6: a refresh asks for a part of what was granted, or is refused."""
    granted = scopes.parse("openid patient/Observation.rs patient/Patient.r")
    assert granted is not None

    def refreshed(text: str) -> Scopes | None:
        asked = scopes.parse(text)
        assert asked is not None
        return scopes.narrowed(granted, asked)

    assert refreshed("patient/Observation.r") is not None
    assert refreshed("patient/Observation.r patient/Observation.s openid") is not None
    assert refreshed("patient/Observation.cruds") is None
    assert refreshed("patient/*.rs") is None
    assert refreshed("offline_access") is None
    assert refreshed("system/Observation.r") is None


CLAUSES = st.lists(st.tuples(st.sampled_from(["code", "category", "_tag"]), st.sampled_from(["a", "b|c"])), max_size=2)
SCOPE = st.builds(
    lambda context, kind, verbs, clauses: Scope(context, kind, verbs, tuple(sorted(set(clauses)))),
    st.sampled_from(scopes.CONTEXTS),
    st.sampled_from(["*", "Patient", "Observation", "Condition"]),
    st.sets(st.sampled_from(scopes.VERBS), min_size=1).map(lambda s: "".join(v for v in scopes.VERBS if v in s)),
    CLAUSES,
)
MANY = st.lists(SCOPE, max_size=5).map(lambda found: Scopes(tuple(found)))


@given(SCOPE)
def test_scope_text_round_trips(scope: Scope) -> None:
    """The canonical text of a scope parses to the same scope."""
    again = scopes.parse_scope(scope.canonical)
    assert again is not None
    assert replace(again, asked="") == scope


@given(MANY, MANY)
def test_negotiation_never_broadens(asked: Scopes, allowed: Scopes) -> None:
    """What is granted is covered by the request and by the registration, and negotiating again changes nothing."""
    granted = scopes.negotiate(asked, allowed)
    assert scopes.all_covered(asked.clinical, granted.clinical)
    assert scopes.all_covered(allowed.clinical, granted.clinical)
    assert set(scopes.negotiate(granted, allowed).clinical) == set(granted.clinical)


@given(SCOPE, SCOPE)
def test_meet_commutes_and_covers(a: Scope, b: Scope) -> None:
    """The meet is the same either way round and is covered by both."""
    ab, ba = scopes.meet(a, b), scopes.meet(b, a)
    assert (ab and ab.canonical) == (ba and ba.canonical)
    if ab:
        assert scopes.covers(a, ab)
        assert scopes.covers(b, ab)
    if scopes.covers(a, b):
        assert ab is not None
        assert ab.canonical == b.canonical


@given(MANY)
def test_shortest_form_covers_the_same(many: Scopes) -> None:
    """Scope equivalence: leaving out what another scope covers loses nothing."""
    short = scopes.shortest(many.clinical)
    assert scopes.all_covered(short, many.clinical)
    assert scopes.all_covered(many.clinical, short)


@given(st.text(max_size=80))
def test_any_text_parses_without_a_fault(text: str) -> None:
    """No text makes the parser raise, and what it grants is what it was asked."""
    found = scopes.parse(text)
    assert found is not None
    assert all(scope.verbs and set(scope.verbs) <= set(scopes.VERBS) for scope in found.clinical)
