"""Referential integrity in transactions: what counts is what they leave, in whatever order they were sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import permutations
from typing import Any

import pytest

from fhir_server.context import Context
from fhir_server.store import Store
from tests.shell import ask, bundle_of, content, context_on, entry, patient, text_of

pytestmark = pytest.mark.anyio

URN = "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a"
REFERRED = "Patient/p is still referred to by other resources."


def observation(reference: str, **more: Any) -> dict[str, Any]:
    subject = {"subject": {"reference": reference}} if reference else {}
    return {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, **subject, **more}


@pytest.fixture
async def context(store: Store) -> AsyncIterator[Context]:
    made = context_on(store, referential_integrity=True)
    await ask(made, "PUT", "Patient/p", patient(id="p"))
    await ask(made, "PUT", "Observation/o", observation("Patient/p", id="o"))
    yield made


async def status(context: Context, *entries: dict[str, Any]) -> int:
    return (await ask(context, "POST", "", bundle_of("transaction", *entries))).status


@pytest.mark.parametrize("order", list(permutations(range(2))))
@pytest.mark.parametrize(
    "other",
    [
        entry("DELETE", "Observation/o"),
        entry("DELETE", "Observation?_id=o"),
        entry("PUT", "Observation/o", observation("", id="o")),
    ],
)
async def test_what_nobody_refers_to_any_more_is_deleted(
    context: Context, other: dict[str, Any], order: tuple[int, ...]
) -> None:
    """The outcome SHALL NOT depend on the order of the entries (R4 http.html#trules)."""
    rows = [entry("DELETE", "Patient/p"), other]
    assert await status(context, *(rows[n] for n in order)) == 200
    assert (await ask(context, "GET", "Patient/p")).status == 410


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_what_comes_later_may_be_referred_to(context: Context, order: tuple[int, ...]) -> None:
    """Resources that are created, and that are put, by the same transaction are there for all of it."""
    rows = [
        entry("POST", "Observation", observation(URN, performer=[{"reference": "Organization/g"}])),
        entry("POST", "Patient", patient(), full_url=URN),
        entry("PUT", "Organization/g", {"resourceType": "Organization", "id": "g", "name": "x"}),
    ]
    assert await status(context, *(rows[n] for n in order)) == 200


async def test_what_is_left_dangling_is_refused_with_its_entry(context: Context) -> None:
    """Deleted or never made: nothing of the transaction is stored."""
    kept = await ask(context, "POST", "", bundle_of("transaction", entry("DELETE", "Patient/p")))
    assert (kept.status, text_of(kept)) == (409, f"Bundle.entry[0]: {REFERRED}")
    rows = [
        entry("DELETE", "Patient/p"),
        entry("DELETE", "Observation/o"),
        entry("POST", "Observation", observation("Patient/p")),
    ]
    dangling = await ask(context, "POST", "", bundle_of("transaction", *rows))
    assert dangling.status in (409, 422)
    assert content(dangling)["issue"][0]["expression"] in (["Bundle.entry[0]"], ["Bundle.entry[2]"])
    never = await ask(
        context, "POST", "", bundle_of("transaction", rows[1], rows[2] | {"resource": observation("Patient/x")})
    )
    assert text_of(never) == "Bundle.entry[1]: The resource refers to Patient/x, which is not known."
    assert (await ask(context, "GET", "Observation/o")).status == 200


async def test_transactions_beside_each_other_leave_nothing_dangling(context: Context) -> None:
    """One deletes what the other refers to: one of the two is refused each time (docs/security.md)."""
    for n in range(10):
        await ask(context, "PUT", f"Patient/q{n}", patient(id=f"q{n}"))
        made, gone = await asyncio.gather(
            status(context, entry("POST", "Observation", observation(f"Patient/q{n}"))),
            status(context, entry("DELETE", f"Patient/q{n}")),
        )
        assert (made, gone) in {(200, 409), (422, 200)}


async def test_what_refers_to_each_other_is_deleted_together(context: Context) -> None:
    """A conditional delete takes all that matches; references among them hold nothing back."""
    for own in ("a", "b"):
        await ask(context, "PUT", f"Patient/{own}", patient(id=own))
    for own, other in (("a", "b"), ("b", "a")):
        link = [{"other": {"reference": f"Patient/{other}"}, "type": "seealso"}]
        assert (await ask(context, "PUT", f"Patient/{own}", patient(id=own, link=link))).status == 200
    assert (await ask(context, "DELETE", "Patient?_id=a,b,p")).status == 409
    assert (await ask(context, "DELETE", "Patient?_id=a,b")).status == 204
