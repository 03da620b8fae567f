"""Whatever a client writes is understood or refused with 400 and its place: nothing else comes out of a query."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from profiles.outcome import FhirError
from search.clauses import walk
from search.filters import compile, is_seen, widened
from search.page import order
from search.params import Registry
from search.query import CONTROLS, parse

REGISTRY = Registry.r4()
TYPES = st.sampled_from(["Patient", "Observation", "Location", "ValueSet", "Encounter", None])
MARKS = tuple(",|$\\:.;-+~^#%&=<>'\"()[]{}*/ZT019\n\t\x00\ud800\u202e\u0130\U0010ffff")
NUMBERS = ("2020", "2020-02-30", "-5", "1e5", "1e999", ".5", "5.", "gt", "le", "ap", "eq")
WORDS = ("Patient/1", "Patient", "http://x", "urn:oid:1", "true", "not ", " and ", " or ", "pr", " co ", "in", "name")
ATTACKS = ("$ne", "$where", '{"$gt":""}', "'||'1'=='1", "%00", "../", "<script>", "_has:Observation:patient:code")
PIECES = (*MARKS, *NUMBERS, *WORDS, *ATTACKS)
TEXT = st.lists(st.sampled_from(PIECES), max_size=6).map("".join) | st.text(max_size=12)
CODES = [p.code for kind in ("Patient", "Observation", "Location") for p in REGISTRY.of(kind)]
MODIFIERS = [
    "",
    ":missing",
    ":exact",
    ":not",
    ":in",
    ":below",
    ":of-type",
    ":identifier",
    ":text",
    ":Patient",
    ":iterate",
    ":",
]
NAMES = st.one_of(
    st.tuples(st.sampled_from([*CODES, *CONTROLS, "_has:Observation:patient:code"]), st.sampled_from(MODIFIERS)).map(
        "".join
    ),
    st.tuples(st.sampled_from(CODES), st.sampled_from(CODES)).map(".".join),
    TEXT,
)
HARD = settings(max_examples=500, deadline=None, database=None)


@HARD
@given(TYPES, NAMES, TEXT)
@example("Patient", "_filter", 'name co "' + "\\" * 50)
@example("Patient", "_filter", "not not not (" * 200)
@example("Patient", "_content", "(" * 500)
@example("Observation", "date", "9999-12-31T23:59:59.999-14:00")
@example("Observation", "date", "0001-01-01T00:00:00+14:00")
@example("Observation", "date", "ap0001")
@example("Observation", "value-quantity", "ap1e99||" + "x" * 5000)
@example("Observation", "value-quantity", "1|http://unitsofmeasure.org|10*99999")
@example("Location", "near", "90|180|1e9|km")
@example("ValueSet", "url:above", "http://" + "x" * 999)
@example("Patient", "birthdate.name", "x")
@example(None, "_type", ",")
@example("Patient", "family", "\U0010ffff")
@example("Patient", "_sort", ".")
@example("Patient", "_sort", "organization.")
@example("Patient", "_include", ":")
@example("Patient", "_has:::", "x")
def test_nothing_but_a_query_or_a_refusal(kind: str | None, name: str, value: str) -> None:
    """A clause that compiles, or 400 with the parameter as its place."""
    try:
        query = parse(kind, [(name, value)], REGISTRY, base="http://b/fhir", now=1_767_225_600_000)
    except FhirError as error:
        assert error.status == 400
        assert all(issue.expression and issue.expression[0].startswith("http.") for issue in error.issues), error.issues
        assert error.text
        return
    wide = widened(query.clauses)
    assert is_seen(wide)
    compile(wide)
    order(query.sort)
    assert len(list(walk(query.clauses))) < 20_000


@HARD
@given(TYPES, NAMES, TEXT)
def test_lenient_handling_never_fails(kind: str | None, name: str, value: str) -> None:
    """With `handling=lenient` what is not understood is a warning, and everything else is used."""
    if name == "_type":
        return  # the types of a search are no matter of handling
    query = parse(kind, [(name, value), ("_id", "x")], REGISTRY, lenient=True, now=0)
    assert ("_id", "x") in query.used or name == "_id"
    assert (((name, value) in query.used) != bool(query.warnings)) or name in ("_format", "_pretty", "_totalMethod")
