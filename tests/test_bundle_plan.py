"""Planning of bundles: pure, so hypothesis may try everything."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.bundles.entries import Entry, read_entries, split_url
from fhir_server.bundles.envelope import checked_entries
from fhir_server.bundles.links import fill, final_names, renamed, root_of, stem
from fhir_server.bundles.plan import plan
from profiles.outcome import FhirError
from tests.shell import BASE, bundle_of, entry, patient

METHODS = st.sampled_from(["GET", "PUT", "POST", "DELETE"])


def planned(*rows: dict[str, Any]) -> tuple[list[Entry], Any]:
    entries = [row for row in read_entries(bundle_of("transaction", *rows), BASE, 1000) if isinstance(row, Entry)]
    numbers = count(1)
    return entries, plan(entries, lambda: f"new{next(numbers)}", BASE)


@given(st.lists(METHODS, max_size=30))
def test_entries_come_in_the_order_of_the_rules(methods: list[str]) -> None:
    """DELETE, POST, PUT, GET; equal ones as they were sent (R4 http.html#trules)."""
    rows = [
        entry(method, "Patient" if method == "POST" else f"Patient/{n}", patient(id=str(n)))
        for n, method in enumerate(methods)
    ]
    _, made = planned(*rows)
    ranks = [(["DELETE", "POST", "PUT", "GET"].index(row.method), row.number) for row in made.entries]
    assert ranks == sorted(ranks)
    assert sorted(row.number for row in made.entries) == list(range(len(methods)))


@given(st.lists(st.uuids(), min_size=1, max_size=20, unique=True), st.data())
def test_every_reference_to_an_entry_is_rewritten(names: list[Any], data: st.DataObject) -> None:
    """Whoever refers to whom, cycles included, nothing of the UUIDs is left and every target is right."""
    urns = [f"urn:uuid:{name}" for name in names]
    links = [data.draw(st.lists(st.sampled_from(urns), max_size=4)) for _ in urns]
    rows = [
        entry("POST", "Patient", patient(link=[{"other": {"reference": t}, "type": "seealso"} for t in targets]), urn)
        for urn, targets in zip(urns, links, strict=True)
    ]
    entries, made = planned(*rows)
    identities = {row.number: row.identity for row in entries}
    for _ in range(2):  # an attempt that is made again fills in the same
        fill(made.slots, final_names(entries, identities), {})
    for row, targets in zip(entries, links, strict=True):
        found = [link["other"]["reference"] for link in (row.resource or {})["link"]]
        assert found == [identities[urns.index(target)] for target in targets]


@given(st.text(max_size=60))
def test_no_url_of_an_entry_crashes(url: str) -> None:
    """Any text is a URL of this server or a FhirError 400."""
    try:
        parts, _ = split_url(url, BASE, "Bundle.entry[0]")
    except FhirError as error:
        assert error.status == 400
    else:
        assert all(part and "/" not in part and part not in (".", "..") for part in parts)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["request", "resource", "method", "url", "fullUrl", "reference"]), inner, max_size=4
            )
        ),
        max_leaves=20,
    )
)
def test_no_entry_crashes(row: Any) -> None:
    """Any JSON in the place of an entry is read or refused."""
    sent = {"resourceType": "Bundle", "type": "batch", "entry": [row]}
    for found in [*read_entries(sent, BASE, 10), *checked_entries(sent, BASE, 10)]:
        assert isinstance(found, Entry | FhirError)


@pytest.mark.parametrize(
    ("url", "parts", "query"),
    [
        ("Patient/1", ("Patient", "1"), []),
        ("/Patient/1", ("Patient", "1"), []),
        (f"{BASE}/Patient?a=b%20c", ("Patient",), [("a", "b c")]),
        ("", (), []),
        ("Patient/%24everything", ("Patient", "$everything"), []),
    ],
)
def test_urls_are_relative_or_of_this_server(url: str, parts: tuple[str, ...], query: list[tuple[str, str]]) -> None:
    """A leading slash and the base itself are tolerated."""
    assert split_url(url, BASE, "") == (parts, query)


def test_another_path_that_begins_alike_is_another_server() -> None:
    """`http://x/fhirPatient/1` is not `Patient/1` below `http://x/fhir`."""
    with pytest.raises(FhirError, match="not on this server"):
        split_url(f"{BASE}Patient/1", BASE, "")


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("urn:uuid:1", "Patient/9"),
        ("urn:uuid:1#part", "Patient/9#part"),
        ("urn:uuid:1/_history/4", "Patient/9/_history/1"),
        ("urn:uuid:2", "urn:uuid:2"),
    ],
)
def test_versions_and_fragments_follow_the_name(text: str, result: str) -> None:
    """A version of what is created now can only be the first."""
    assert renamed(text, {"urn:uuid:1": "Patient/9"}) == result


def test_the_parts_of_names() -> None:
    """The base of a RESTful fullUrl, and a reference without version and fragment."""
    assert root_of("http://a/fhir/Patient/1") == "http://a/fhir/"
    assert root_of("urn:uuid:1") is None
    assert root_of("http://a/fhir/Nothing/1") is None
    assert stem("Patient/1/_history/2#x") == "Patient/1"
