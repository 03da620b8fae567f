"""Attacks D, P, I and X: what costs too much, cannot be parsed or injects is a 4xx at once, and never a 500."""

from __future__ import annotations

import json
import statistics
import time
from typing import Any
from urllib.parse import parse_qsl, quote

import pytest

from fhir_server.answers.respond import Response
from fhir_server.context import Request
from fhir_server.routes import handle
from tests.hospital import Hospital, observation, reference

pytestmark = pytest.mark.anyio
FHIR, XML = "application/fhir+json", "application/fhir+xml"
DTD = '<?xml version="1.0"?><!DOCTYPE Patient [{}]><Patient xmlns="http://hl7.org/fhir"><id value="{}"/></Patient>'


async def send(hospital: Hospital, method: str, url: str, body: bytes = b"", kind: str = FHIR, **more: str) -> Response:
    """A request as bytes, of a doctor."""
    path, _, query = url.partition("?")
    headers = {"content-type": kind} | {name.replace("_", "-"): value for name, value in more.items()}
    parts = tuple(path.split("/")) if path else ()
    pairs = parse_qsl(query, keep_blank_values=True)
    return await handle(
        Request(method, parts, pairs, headers, body, principal=hospital.doctor, id="t"), hospital.context
    )


def patient(**more: Any) -> bytes:
    return json.dumps({"resourceType": "Patient", **more}).encode()


def narrative(html: str) -> bytes:
    return patient(text={"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{html}</div>'})


def parameters(**values: Any) -> bytes:
    rows = [{"name": name, **value} for name, value in values.items()]
    return json.dumps({"resourceType": "Parameters", "parameter": rows}).encode()


# Name: method, url, body, media type, the statuses that are fine.
ATTACKS: dict[str, tuple[str, str, bytes, str, set[int]]] = {
    "D01 count -1": ("GET", "Patient?_count=-1", b"", FHIR, {400}),
    "D01 count 1e9": ("GET", "Patient?_count=1e9", b"", FHIR, {400}),
    "D01 count abc": ("GET", "Patient?_count=abc", b"", FHIR, {400}),
    "D01 count huge": ("GET", "Patient?_count=1000000000", b"", FHIR, {200, 400}),
    "D03 cycle": ("GET", "Observation?_include:iterate=Observation:has-member", b"", FHIR, {200}),
    "D05 has nested 10 deep": (
        "GET",
        "Observation?" + "_has:Observation:has-member:" * 10 + "code=a",
        b"",
        FHIR,
        {400, 403, 422},
    ),
    "D05 a chain of 50 in a filter": (
        "GET",
        "Location?_filter=" + "partof." * 50 + "name+eq+x",
        b"",
        FHIR,
        {400, 403},
    ),
    "D05 has nested in a filter": (
        "GET",
        "Observation?_filter=" + "_has:Observation:has-member:" * 12 + "code+eq+a",
        b"",
        FHIR,
        {400, 403},
    ),
    "D07 contains a wildcard": ("GET", "Patient?name:contains=%25", b"", FHIR, {200, 400}),
    "D09 ten sort keys": ("GET", "Patient?_sort=" + ",".join(["family"] * 10), b"", FHIR, {400}),
    "D13 a number without end": ("GET", "Observation?value-quantity=1e1000000||mg", b"", FHIR, {400}),
    "D13 a number near nothing": ("GET", "Observation?value-quantity=1e-999999||mg", b"", FHIR, {400}),
    "D17 fhirpath of 10 kB": (
        "GET",
        "Patient/P1/$fhirpath?expression=" + "(" * 1_000 + "1" + ")" * 1_000,
        b"",
        FHIR,
        {400, 422},
    ),
    "D17 an exponential pattern": (
        "POST",
        "$fhirpath",
        parameters(
            resource={"resource": {"resourceType": "Patient", "id": "a" * 60}},
            expression={"valueString": "id.matches('(a+)+$!')"},
        ),
        FHIR,
        {200, 400, 422},
    ),
    "P01 depth 500": ("POST", "Patient", b'{"a":' * 500 + b"1" + b"}" * 500, FHIR, {400}),
    "P01 depth 100000": ("POST", "Patient", b"[" * 100_000, FHIR, {400}),
    "P03 duplicate keys": ("POST", "Patient", b'{"resourceType":"Patient","id":"1","id":"2"}', FHIR, {400}),
    "P05 lone surrogate": (
        "POST",
        "Patient",
        b'{"resourceType":"Patient","name":[{"family":"\\ud800"}]}',
        FHIR,
        {400, 422},
    ),
    "P05 NUL in a key": ("POST", "Patient", b'{"resourceType":"Patient","a\\u0000b":1}', FHIR, {400, 422}),
    "P05 NUL in a value": (
        "POST",
        "Patient",
        b'{"resourceType":"Patient","name":[{"family":"a\\u0000b"}]}',
        FHIR,
        {400, 422},
    ),
    "P05 UTF-16": ("POST", "Patient", patient().decode().encode("utf-16"), FHIR, {400}),
    "P05 overlong": ("POST", "Patient", b'{"resourceType":"Patient","language":"\xc0\xaf"}', FHIR, {400}),
    "P07 an absurd decimal": (
        "POST",
        "Observation",
        json.dumps(observation("x", "Patient/P1")).encode()[:-1] + b',"valueQuantity":{"value":1e1000000}}',
        FHIR,
        {400, 422},
    ),
    "P09 laughs": ("POST", "Patient", DTD.format('<!ENTITY a "aaaa">', "&a;").encode(), XML, {400}),
    "P09 a file": (
        "POST",
        "Patient",
        DTD.format('<!ENTITY a SYSTEM "file:///etc/passwd">', "&a;").encode(),
        XML,
        {400},
    ),
    "P09 a parameter entity": (
        "POST",
        "Patient",
        DTD.format('<!ENTITY % a SYSTEM "http://127.0.0.1:9/"> %a;', "x").encode(),
        XML,
        {400},
    ),
    "P11 base64 that backtracks": (
        "POST",
        "Binary",
        json.dumps(
            {"resourceType": "Binary", "contentType": "text/plain", "data": ("AAAA" + "  ") * 20 + "!"}
        ).encode(),
        FHIR,
        {400, 422},
    ),
    "P13 no base64": ("POST", "Patient", patient(photo=[{"data": "<script>"}]), FHIR, {400, 422}),
    "P23 an id of 65": ("PUT", "Patient/" + "a" * 65, patient(id="a" * 65), FHIR, {400}),
    "P23 dots": ("GET", "Patient/%2e%2e", b"", FHIR, {400, 404}),
    "P23 an operator": ("GET", "Patient/$ne", b"", FHIR, {400, 403, 404}),
    "P23 NUL": ("GET", "Patient/a\0", b"", FHIR, {400}),
    "P25 a copy that doubles": (
        "PATCH",
        "Patient/P1",
        json.dumps([{"op": "copy", "from": "/name", "path": "/name/0/x"}] * 40).encode(),
        "application/json-patch+json",
        {400, 413, 422},
    ),
    "P25 100,000 operations": (
        "PATCH",
        "Patient/P1",
        json.dumps([{"op": "test", "path": "/id", "value": "P1"}] * 100_000).encode(),
        "application/json-patch+json",
        {400, 413, 422},
    ),
    "I01 an operator in the name": ("GET", "Patient?identifier[$ne]=x", b"", FHIR, {400}),
    "I01 an operator in the value": ("GET", "Patient?name=" + quote('{"$gt":""}'), b"", FHIR, {200}),
    "I03 elements": ("GET", "Patient?_elements=$where", b"", FHIR, {200, 400}),
    "I03 sort": ("GET", "Patient?_sort=search.$x", b"", FHIR, {400}),
    "I03 include": ("GET", "Patient?_include=$where:1", b"", FHIR, {400}),
    "X01 script": ("POST", "Patient", narrative("<script>1</script>"), FHIR, {400, 422}),
    "X01 a handler": ("POST", "Patient", narrative('<img src="x" onerror="1"/>'), FHIR, {400, 422}),
    "X01 a frame": ("POST", "Patient", narrative('<iframe src="http://x"></iframe>'), FHIR, {400, 422}),
    "X01 a javascript link": ("POST", "Patient", narrative('<a href=" javascript:1">x</a>'), FHIR, {400, 422}),
    "X01 a tab in the scheme": ("POST", "Patient", narrative('<a href="&#9;javascript:1">x</a>'), FHIR, {400, 422}),
    "X01 a tab inside the scheme": ("POST", "Patient", narrative('<a href="java&#9;script:1">x</a>'), FHIR, {400, 422}),
    "X01 data": ("POST", "Patient", narrative('<a href="data:text/html,x">x</a>'), FHIR, {400, 422}),
    "X01 an image": (
        "POST",
        "Patient",
        narrative('<svg xmlns="http://www.w3.org/2000/svg" onload="1"/>'),
        FHIR,
        {400, 422},
    ),
    "X01 a form": ("POST", "Patient", narrative('<form action="x">x</form>'), FHIR, {400, 422}),
    "X01 a base": ("POST", "Patient", narrative('<base href="http://x"/>x'), FHIR, {400, 422}),
    "X01 a style": ("POST", "Patient", narrative('<p style="width:expression(1)">x</p>'), FHIR, {400, 422}),
    "X01 a picture by style": ("POST", "Patient", narrative('<p style="background:url(//x)">x</p>'), FHIR, {400, 422}),
    "X01 srcset": ("POST", "Patient", narrative('<img src="x" srcset="//x 1x"/>'), FHIR, {400, 422}),
    "X01 contained": (
        "POST",
        "Basic",
        json.dumps(
            {
                "resourceType": "Basic",
                "code": {"text": "x"},
                "subject": {"reference": "#p"},
                "contained": [json.loads(narrative("<script>1</script>")) | {"id": "p"}],
            }
        ).encode(),
        FHIR,
        {400, 422},
    ),
    "X05 callback": ("GET", "Patient?callback=alert", b"", FHIR, {400}),
}


@pytest.mark.parametrize("name", ATTACKS)
async def test_refused_at_once_and_told_nothing(hospital: Hospital, name: str) -> None:
    """The status is one of those that are fine, in time, and the answer shows nothing of the inside."""
    method, url, body, kind, fine = ATTACKS[name]
    begun = time.process_time()
    answer = await send(hospital, method, url, body, kind)
    assert time.process_time() - begun < 2
    assert answer.status in fine, answer.body[:300]
    for inside in (b"Traceback", b".py", b"pymongo", b"root:", b"E11000"):
        assert inside not in answer.body
    assert answer.status == 200 or b"OperationOutcome" in answer.body


async def test_the_twins_are_answered(hospital: Hospital) -> None:
    """The ordinary forms of the same requests work."""
    for method, url, body, kind in (
        ("GET", "Patient?_count=1000", b"", FHIR),
        ("GET", "Patient?_sort=family,-birthdate", b"", FHIR),
        ("GET", "Observation?_has:Observation:has-member:code=a", b"", FHIR),
        ("POST", "Patient", patient(name=[{"family": "Ünïcode \u202e"}]), FHIR),
        ("POST", "Patient", b'<Patient xmlns="http://hl7.org/fhir"><gender value="male"/></Patient>', XML),
        ("POST", "Patient", narrative('<p style="color:red">x <a href="https://x.example">y</a></p>'), FHIR),
        ("POST", "Patient", patient(photo=[{"data": "AAAA"}]), FHIR),
        ("GET", "Patient/P1/$fhirpath?expression=" + "(" * 20 + "1" + ")" * 20, b"", FHIR),
    ):
        answer = await send(hospital, method, url, body, kind)
        assert answer.status in (200, 201), (url, answer.body)


async def test_i11_headers_that_claim_are_not_believed(hospital: Hospital) -> None:
    """No header changes the method, the caller or the tenant."""
    claims = {"X-HTTP-Method-Override": "DELETE", "X-Security-Context": "root", "X-Forwarded-User": "root"}
    lower = {name.lower(): value for name, value in claims.items()}
    answer = await send(hospital, "GET", "Observation/o1", **lower)
    assert answer.status == 200
    assert (await send(hospital, "GET", "Observation/o1")).status == 200
    app = hospital.app()
    assert (await hospital.ask(app, "GET", "Observation/o2", x_security_context="root")).status == 404


async def test_t27_forbidden_and_missing_take_the_same_time(hospital: Hospital) -> None:
    """The medians of reading what is another's and what never was differ by less than two milliseconds."""
    app, times = hospital.app(), {"o2": [], "zz": []}  # type: ignore[var-annotated]
    for _ in range(100):
        for name, taken in times.items():
            begun = time.perf_counter()
            assert (await hospital.ask(app, "GET", f"Observation/{name}")).status == 404
            taken.append(time.perf_counter() - begun)
    assert abs(statistics.median(times["o2"]) - statistics.median(times["zz"])) < 0.002


async def test_s13_the_patient_of_a_launch_cannot_be_changed(hospital: Hospital) -> None:
    """No parameter, header or encounter of another patient moves a token of P1 to P2."""
    app = hospital.app()
    for url in ("Observation?patient=P2", "Observation?subject:Patient=P2", "Patient?_id=P2", "Patient/P2/Condition"):
        assert await hospital.ids(app, url) == set()
    assert (await hospital.ask(app, "GET", "Encounter/e2", patient="P2")).status == 404
    body = observation("x", "Patient/P1", encounter=reference("Encounter/e2"))
    made = await hospital.ask(app, "POST", "Observation", body)
    assert made.status == 201
    assert await hospital.ids(app, "Observation?encounter.class=AMB") == set()
    assert await hospital.ids(app, "Observation?patient=P1&code=a&_count=1") >= {"Observation/o1"}
