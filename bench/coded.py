"""Requests of terminology as EHRs send them: codes all over ICD-10-CM, so that kept answers do not tell the tale."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import cache
from urllib.parse import urlencode

from bench.data import World
from terminology.content import shipped

ICD10 = "http://hl7.org/fhir/sid/icd-10-cm"
GENDER = "http://hl7.org/fhir/ValueSet/administrative-gender"
BRANCHES = ("A15", "C50", "E11", "I10", "J45", "M05", "S72")
TEXTS = (
    "dia",
    "diabetes retin",
    "fracture radius",
    "encounter",
    "hypertensoin",
    "asthma",
    "hip fx left",
    "chron kidney",
)


@cache
def codes() -> list[str]:
    """Every code of ICD-10-CM."""
    system = shipped().system(ICD10, shipped().newest("CodeSystem", ICD10, shipped().versions("CodeSystem", ICD10)))
    assert system is not None
    return list(system.codes())


def _get(path: str, **query: str) -> bytes:
    return f"GET /fhir/{path}?{urlencode(query)} HTTP/1.1\r\nhost: b\r\n\r\n".encode()


def _post(path: str, *parameters: dict[str, object]) -> bytes:
    body = json.dumps({"resourceType": "Parameters", "parameter": parameters}).encode()
    head = f"POST /fhir/{path} HTTP/1.1\r\nhost: b\r\ncontent-type: application/fhir+json\r\n"
    return b"%bcontent-length: %d\r\n\r\n%b" % (head.encode(), len(body), body)


def _any() -> str:
    return random.choice(codes())


def _subsumes() -> dict[str, str]:
    code = _any()
    return {"system": ICD10, "codeA": code if "-" in code else code[:3], "codeB": code}


def _coding(name: str, code: str) -> dict[str, object]:
    return {"name": name, "valueCoding": {"system": ICD10, "code": code}}


URL: dict[str, object] = {"name": "url", "valueUri": f"{ICD10}?fhir_vs"}

# Operation -> the next request. Each row is one line of the table.
CODED: dict[str, Callable[[World], bytes]] = {
    "$lookup": lambda _: _get("CodeSystem/$lookup", system=ICD10, code=_any()),
    "$lookup POST": lambda _: _post("CodeSystem/$lookup", _coding("coding", _any())),
    "$validate-code": lambda _: _get("ValueSet/$validate-code", url=f"{ICD10}?fhir_vs", system=ICD10, code=_any()),
    "$validate-code POST": lambda _: _post("ValueSet/$validate-code", URL, _coding("coding", _any())),
    "$validate-code system": lambda _: _get("CodeSystem/$validate-code", url=ICD10, code=_any()),
    "$validate-code branch": lambda _: _get(
        "ValueSet/$validate-code", url=f"{ICD10}?fhir_vs=isa/{random.choice(BRANCHES)}", system=ICD10, code=_any()
    ),
    "$validate-code R4": lambda _: _get(
        "ValueSet/$validate-code", url=GENDER, system="http://hl7.org/fhir/administrative-gender", code="male"
    ),
    "$subsumes": lambda _: _get("CodeSystem/$subsumes", **_subsumes()),
    "$subsumes POST": lambda _: _post(
        "CodeSystem/$subsumes", *(_coding(f"coding{name[-1]}", c) for name, c in _subsumes().items() if "code" in name)
    ),
    "$expand filter": lambda _: _get(
        "ValueSet/$expand", url=f"{ICD10}?fhir_vs", filter=random.choice(TEXTS), count="20"
    ),
    "$expand page of 1,000": lambda _: _get(
        "ValueSet/$expand", url=f"{ICD10}?fhir_vs", offset=str(random.randrange(90) * 1000), count="1000"
    ),
}
