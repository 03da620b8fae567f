"""What widespread client libraries send beyond the specification; each would fail or lose data in silence."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.store import Store
from tests.shell import ask, content, context_on, id_of, patient

pytestmark = pytest.mark.anyio


def parameters(*operation: tuple[str, Any]) -> dict[str, Any]:
    parts = [{"name": name, value_name: value} for name, (value_name, value) in operation]
    return {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}


REPLACE = parameters(
    ("type", ("valueCode", "replace")), ("path", ("valueString", "Patient.gender")), ("value", ("valueCode", "other"))
)


@pytest.mark.parametrize(
    ("media", "patch"),
    [
        ("application/json", {"gender": "other"}),
        ("application/json", [{"op": "replace", "path": "/gender", "value": "other"}]),
        ("application/json", REPLACE),
        ("application/fhir+json", REPLACE),
    ],
)
async def test_a_patch_as_plain_json_is_known_by_its_shape(store: Store, media: str, patch: Any) -> None:
    """fhirpy sends merge patches as application/json."""
    context = context_on(store)
    id = id_of(await ask(context, "POST", "Patient", patient(gender="male")))
    answer = await ask(context, "PATCH", f"Patient/{id}", patch, content_type=media)
    assert (answer.status, content(answer)["gender"]) == (200, "other")


async def test_criteria_in_the_url_of_a_create_are_not_ignored(store: Store) -> None:
    """fhirpy's get_or_create posts to Patient?identifier=..., which is a conditional create."""
    context = context_on(store)
    mine = patient(identifier=[{"system": "http://a", "value": "1"}])
    answers = [await ask(context, "POST", "Patient?identifier=http://a|1", mine) for _ in range(2)]
    assert [answer.status for answer in answers] == [201, 200]
    assert content(answers[0])["id"] == content(answers[1])["id"]


async def test_a_count_by_fhirpy_is_answered(store: Store) -> None:
    """It asks for _totalMethod, which no specification knows, beside _count=0."""
    context = context_on(store)
    await ask(context, "POST", "Patient", patient())
    answer = await ask(context, "GET", "Patient?family=Shaw&_count=0&_totalMethod=count")
    assert (answer.status, content(answer)["total"]) == (200, 1)
