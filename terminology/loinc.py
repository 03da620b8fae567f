"""LOINC's implicit value sets (http://hl7.org/fhir/R4/loinc.html#implicit)."""

from __future__ import annotations

from terminology.concepts import Json


def answers_of(url: str, query: str) -> Json | None:
    """All of LOINC (`/vs`), or an answer list or part (`/vs/LL715-4`, `/vs/LP...`): the codes below it."""
    name = query.removeprefix("fhir_vs").lstrip("/=")
    row: Json = {"system": url}
    if name:
        row["filter"] = [{"property": _property(name), "op": "=", "value": name}]
    of = f"{url}/vs/{name}" if name else f"{url}/vs"
    return {"resourceType": "ValueSet", "url": of, "status": "active", "name": "LOINC", "compose": {"include": [row]}}


def _property(name: str) -> str:
    return "LIST" if name.startswith("LL") else "parent"
