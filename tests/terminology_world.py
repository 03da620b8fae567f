"""What the terminology tests share: a small world of code systems and value sets, and short ways to ask."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from profiles.outcome import FhirError
from terminology.content import shipped
from terminology.expand import Clock
from terminology.library import Library, Loose
from terminology.operations import Asking, run
from terminology.request import Parameters, of_query

Json = dict[str, Any]
CLOCK = Clock(datetime(2026, 11, 21, 12, 0, tzinfo=UTC), "00000000-0000-4000-8000-000000000000")
ANIMALS = "http://example.org/animals"
SETS = "http://example.org/sets/"
ICD10 = "http://hl7.org/fhir/sid/icd-10-cm"


def system(version: str, *concepts: Json, **more: Any) -> Json:
    """A code system of animals."""
    return {
        "resourceType": "CodeSystem",
        "url": ANIMALS,
        "version": version,
        "name": "Animals",
        "status": "active",
        "language": "en",
        "caseSensitive": True,
        "content": "complete",
        "concept": list(concepts),
        **more,
    }


def concept(code: str, *below: Json, **more: Any) -> Json:
    """A concept, its display made from the code."""
    row: Json = {"code": code, "display": code.capitalize(), **more}
    return row | ({"concept": list(below)} if below else {})


def value_set(name: str, *include: Json, exclude: list[Json] | None = None, **more: Any) -> Json:
    """A value set."""
    compose: Json = {"include": list(include), **({"exclude": exclude} if exclude else {}), **more.pop("compose", {})}
    return {"resourceType": "ValueSet", "url": SETS + name, "status": "active", "compose": compose, **more}


def library(*resources: Json) -> Library:
    """The resources before everything that comes with the server."""
    return Library((Loose(resources), shipped()))


def ask(known: Library, kind: str, name: str, *rows: Json, header: str | None = None, **simple: Any) -> Json:
    """The answer of an operation; `simple` are parameters with `_` for `-`."""
    pairs = of_query(
        (k.replace("_", "-"), str(v).lower() if isinstance(v, bool) else str(v)) for k, v in simple.items()
    )
    return run(kind, name, Asking(known, Parameters([*pairs.rows, *rows]), CLOCK, header))


def refused(known: Library, kind: str, name: str, *rows: Json, **simple: Any) -> FhirError:
    """The error of an operation."""
    try:
        ask(known, kind, name, *rows, **simple)
    except FhirError as error:
        return error
    raise AssertionError("the operation was not refused")


def value(answer: Json, name: str) -> Any:
    """The value of a parameter of an answer."""
    for row in answer["parameter"]:
        if row["name"] == name:
            return next((v for k, v in row.items() if k.startswith("value")), row.get("resource"))
    return None


def messages(answer: Json) -> list[str]:
    """The message ids of the issues."""
    issues = value(answer, "issues")
    return [i["extension"][0]["valueString"] for i in issues["issue"]] if issues else []


def codes(expanded: Json) -> list[str]:
    """The codes of an expansion, nested ones after what they are nested in."""
    found: list[str] = []
    stack = list(reversed(expanded["expansion"].get("contains", ())))
    while stack:
        row = stack.pop()
        found.append(row["code"])
        stack += reversed(row.get("contains", ()))
    return found
