"""Header values: pure, so hypothesis may try everything."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.answers.links import Seal
from fhir_server.context import Request
from fhir_server.http.formats import JSON, XML, chosen
from fhir_server.http.headers import (
    accepted,
    accepts_gzip,
    etag,
    http_date,
    instant_of,
    matches_etag,
    media,
    prefer,
    version_of,
)
from fhir_server.http.queries import pairs_of
from fhir_server.ids import TimeOrdered
from profiles.outcome import FhirError


@given(st.text(alphabet="ab=&+%4é7C;#?", max_size=30))
def test_queries_are_read_as_elsewhere(text: str) -> None:
    """Names and values of a URL are those that urllib finds."""
    assert pairs_of(text, 100) == parse_qsl(text, keep_blank_values=True)


def test_queries_have_a_limit() -> None:
    """More pairs than allowed are refused before any is read."""
    assert pairs_of("a=1&b=2", 2) == [("a", "1"), ("b", "2")]
    with pytest.raises(ValueError, match="more than 2"):
        pairs_of("a=1&b=2&c=3", 2)


@given(st.text(max_size=80))
def test_no_header_crashes(text: str) -> None:
    """Any text is read as something or refused by a FhirError."""
    prefer(text)
    accepted(text)
    accepts_gzip(text)
    instant_of(text)
    matches_etag(text, 1)
    media(text)
    try:
        chosen(Request("GET", (), [("_format", text)], {"accept": text}))
    except FhirError as error:
        assert error.status == 406


@given(st.integers(min_value=1, max_value=10**9))
def test_etags_go_round(version: int) -> None:
    """A version is its own ETag's, weak or strong, and no other's."""
    assert version_of(etag(version)) == str(version)
    assert matches_etag(f'"{version}"', version)
    assert matches_etag(f'W/"0", W/"{version}"', version)
    assert not matches_etag(etag(version + 1), version)


@given(st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(9999, 1, 1), timezones=st.just(UTC)))
def test_dates_go_round(at: datetime) -> None:
    """An HTTP date is the instant in whole seconds."""
    assert instant_of(http_date(at)) == at.replace(microsecond=0)


@given(st.lists(st.tuples(st.sampled_from(["a/a", "b/b", "*/*", "a/*"]), st.floats(0.001, 1)), max_size=6))
def test_ranges_come_best_first(rows: list[tuple[str, float]]) -> None:
    """Ordered by quality, then by how specific they are (RFC 9110 §12.5.1)."""
    found = accepted(", ".join(f"{name};q={quality:.3f}" for name, quality in rows))
    ranks = [(-row.quality, row.name.count("*")) for row in found]
    assert ranks == sorted(ranks)
    assert len(found) == len(rows)


@pytest.mark.parametrize(
    ("text", "answer", "handling", "is_async"),
    [
        ("return=minimal", "minimal", None, False),
        ("handling=strict, return=OperationOutcome", "OperationOutcome", "strict", False),
        ("respond-async; handling=lenient", None, "lenient", True),
        ('return="representation"', "representation", None, False),
        ("return=everything, handling=maybe", None, None, False),
    ],
)
def test_preferences(text: str, answer: str | None, handling: str | None, is_async: bool) -> None:
    """RFC 7240; what nobody knows is ignored."""
    found = prefer(text)
    assert (found.answer, found.handling, found.respond_async) == (answer, handling, is_async)


@pytest.mark.parametrize(
    ("format", "accept", "row"),
    [
        (None, None, JSON),
        (None, "*/*", JSON),
        (None, "application/xml", XML),
        (None, "application/json;q=0.5, application/fhir+xml;q=0.6", XML),
        (None, "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", JSON),
        (None, "application/fhir+json; fhirVersion=4.0", JSON),
        (None, "image/*, application/*", JSON),
        (None, "application/fhir+json;q=0, */*", XML),
        (None, "application/fhir+json;q=0.1, */*;q=0.9", XML),
        (None, "*/*;q=0.1, application/fhir+xml;q=0.1", XML),
        (None, "application/fhir+xml;q=0.5, */*;q=0.8", JSON),
        (None, "application/fhir+xml, application/fhir+json", XML),
        (None, "application/fhir+xml; fhirVersion=3.0, application/fhir+json;q=0.1", JSON),
        ("xml", "application/json", XML),
        ("application/fhir xml", None, XML),
        ("json", "image/png", JSON),
    ],
)
def test_the_format_that_is_chosen(format: str | None, accept: str | None, row: object) -> None:
    """_format before Accept, quality before order (R4 http.html#mime-type)."""
    query = [("_format", format)] if format else []
    assert chosen(Request("GET", (), query, {"accept": accept} if accept else {})) is row


def test_gzip_only_when_asked() -> None:
    """A quality of zero is a refusal."""
    assert accepts_gzip("gzip, deflate")
    assert accepts_gzip("*;q=0.5")
    assert not accepts_gzip("gzip;q=0")
    assert not accepts_gzip("br")


def test_ids_grow_with_time_and_are_unique() -> None:
    """RFC 9562, version 7, variant 2; sorted as text they are in the order of their making."""
    make = TimeOrdered(clock=lambda: 1_700_000_000_000_000_000)
    ids = [make() for _ in range(10_000)]
    assert ids == sorted(set(ids))
    assert all(len(id) == 36 and id[14] == "7" and id[19] in "89ab" for id in ids)


@given(st.text(max_size=50))
def test_what_was_not_sealed_here_does_not_open(text: str) -> None:
    """400 for any text, and for a seal of another key or purpose."""
    seal = Seal(bytes(32))
    with pytest.raises(FhirError):
        seal.open(text, "a")


def test_seals() -> None:
    """What is closed opens again for the same purpose only."""
    seal = Seal(bytes(32))
    closed = seal.close({"query": [["a", "b"]]}, "here")
    assert seal.open(closed, "here") == {"query": [["a", "b"]]}
    for other, about in ((seal, "there"), (Seal(bytes(31) + b"1"), "here")):
        with pytest.raises(FhirError):
            other.open(closed, about)


@pytest.mark.parametrize("accept", ["application/fhir+json;q=0", "*/*;q=0", "image/png", "text/turtle, text/plain"])
def test_what_is_not_offered_is_refused(accept: str) -> None:
    """406, and the formats there are."""
    with pytest.raises(FhirError, match="use application/fhir") as error:
        chosen(Request("GET", headers={"accept": accept}))
    assert error.value.status == 406
