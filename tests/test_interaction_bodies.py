"""Bodies of interactions on a real mongod: what is refused, content types, XML, Binaries, forms, NDJSON."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from fhir_server.context import Context
from fhir_server.store import Store, instant
from fhir_server.writing.resource import record
from profiles.json import encode, parse
from tests.shell import ask, content, context_on, id_of, patient, text_of

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        ("GET", "Foo/1", 404),
        ("GET", "Foo", 404),
        ("POST", "patient", 404),
        ("GET", "Patient/1/2/3/4/5", 404),
        ("GET", "Patient/$nonsense", 404),
        ("GET", "Patient/" + "x" * 65, 400),
        ("GET", "Patient/a_b", 400),
        ("GET", "Patient/\x00", 400),
        ("POST", "Patient/1", 405),
        ("DELETE", "metadata", 405),
        ("PUT", "", 405),
    ],
)
async def test_requests_for_nothing(context: Context, method: str, url: str, status: int) -> None:
    """Unknown types, shapes, ids and methods, each with an OperationOutcome."""
    answer = await ask(context, method, url)
    assert answer.status == status
    assert content(answer)["resourceType"] == "OperationOutcome"
    assert ("Allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b'{"resourceType":"Patient","id":"a","id":"b"}', 400),
        (b'{"resourceType":"Patient","birthDate":NaN}', 400),
        (b'{"resourceType":"Patient","language":"\\ud800"}', 400),
        (b'{"resourceType":"Patient","language":"a\\u0000"}', 400),
        (b'{"resourceType":"Patient","extension":' + b"[" * 500 + b"]" * 500 + b"}", 400),
        (b'{"resourceType":"Patient","multipleBirthInteger":9223372036854775808}', 400),
        (b"\xff\xfe{", 400),
        (b'{"name":[]}', 400),
    ],
)
async def test_malformed_bodies(context: Context, raw: bytes, status: int) -> None:
    """A 4xx with an OperationOutcome that says why, and nothing stored (attack P01 to P05)."""
    answer = await ask(context, "POST", "Patient", raw)
    assert answer.status in (status, 422)
    assert text_of(answer)


async def test_content_types(context: Context) -> None:
    """415 for what is not read, 406 for what is not written, whatever else is wrong."""
    plain = await ask(context, "POST", "Patient", patient(), content_type="text/plain")
    assert plain.status == 415
    assert (await ask(context, "GET", "Patient", accept="image/png")).status == 406
    assert (await ask(context, "GET", "Patient?_format=turtle")).status == 406
    assert (await ask(context, "POST", "Patient", patient(), accept="image/png")).status == 406
    assert content(await ask(context, "GET", "Patient"))["total"] == 0
    old = await ask(context, "GET", "Patient", accept="application/fhir+json; fhirVersion=3.0")
    assert old.status == 406
    charset = await ask(context, "POST", "Patient", patient(), content_type="application/fhir+json;charset=utf-16")
    assert charset.status == 415


async def test_xml_both_ways(context: Context) -> None:
    """XML in, XML out, by header, by _format and by quality (R4 http.html#mime-type)."""
    xml = b'<Patient xmlns="http://hl7.org/fhir"><active value="true"/></Patient>'
    created = await ask(context, "POST", "Patient", xml, content_type="application/fhir+xml", accept="application/xml")
    assert created.status == 201
    assert created.media == "application/fhir+xml; charset=utf-8"
    assert b'<active value="true"/>' in created.body
    id = id_of(created)
    for url, accept in (
        (f"Patient/{id}?_format=xml", "*/*"),
        (f"Patient/{id}", "text/xml;q=0.9, application/json;q=0.1"),
    ):
        assert b"<Patient" in (await ask(context, "GET", url, accept=accept)).body
    assert b"<Bundle" in (await ask(context, "GET", "Patient?_format=xml")).body
    assert b"<OperationOutcome" in (await ask(context, "GET", "Patient/none?_format=xml")).body


def nested(levels: int) -> list[dict[str, Any]]:
    """So many extensions, one in the other."""
    found: dict[str, Any] = {"url": "http://e.org/x", "valueString": "x"}
    for _ in range(levels - 1):
        found = {"url": "http://e.org/x", "extension": [found]}
    return [found]


XML = "application/fhir+xml"
ADDED = [
    ("application/json-patch+json", [{"op": "add", "path": "/extension/0/extension", "value": nested(31)}]),
    (
        "application/json-patch+json",
        [{"op": "copy", "from": "/extension", "path": "/extension/0/extension/0/extension/0/extension"}],
    ),
    (
        "application/fhir+json",
        {
            "resourceType": "Parameters",
            "parameter": [
                {
                    "name": "operation",
                    "part": [
                        {"name": "type", "valueCode": "add"},
                        {"name": "path", "valueString": "Patient.extension.extension.extension.extension"},
                        {"name": "name", "valueString": "extension"},
                        {"name": "value", "valueExtension": nested(28)[0]},
                    ],
                }
            ],
        },
    ),
]


@pytest.mark.parametrize(("kind", "change"), ADDED)
async def test_a_patch_makes_nothing_deeper_than_a_body(context: Context, kind: str, change: Any) -> None:
    """64 levels, however they come together."""
    await ask(context, "PUT", "Patient/deep", patient(id="deep", extension=nested(29)))
    refused = await ask(context, "PATCH", "Patient/deep", change, content_type=kind)
    assert (refused.status, text_of(refused)[:32]) == (400, "The resource is nested deeper th")


@pytest.mark.parametrize("number", ["1e3000", "9" * 5000])
async def test_a_patch_in_xml_has_the_limits_of_json(context: Context, number: str) -> None:
    """What JSON refuses does not come in another way."""
    await ask(context, "PUT", "Patient/p1", patient(id="p1"))
    parts = (("type", "Code", "add"), ("path", "String", "Patient"), ("name", "String", "extension"))
    rows = "".join(f'<part><name value="{name}"/><value{kind} value="{value}"/></part>' for name, kind, value in parts)
    extension = f'<part><name value="value"/><valueDecimal value="{number}"/></part>'
    operation = f'<name value="operation"/>{rows}<part><name value="value"/>{extension}</part>'
    sent = f'<Parameters xmlns="http://hl7.org/fhir"><parameter>{operation}</parameter></Parameters>'
    refused = await ask(context, "PATCH", "Patient/p1", sent.encode(), content_type=XML)
    assert refused.status == 400 and "beyond the limits" in text_of(refused)
    added = f'<extension xmlns="http://hl7.org/fhir" url="u"><valueDecimal value="{number}"/></extension>'
    sent = f'<diff xmlns="http://hl7.org/fhir"><add sel="Patient" pos="prepend">{added}</add></diff>'
    refused = await ask(context, "PATCH", "Patient/p1", sent.encode(), content_type="application/xml-patch+xml")
    assert refused.status == 400 and "beyond the limits" in text_of(refused)


@pytest.mark.parametrize(
    "found", [nested(30), [{"url": "u", "valueDecimal": Decimal("1e3000")}], [{"url": "u", "valueDecimal": 10**4000}]]
)
async def test_a_page_shows_all_that_is_stored(context: Context, found: list[dict[str, Any]]) -> None:
    """The limits are for what comes in: a Bundle adds levels, and what is stored may be from before a limit."""
    at = instant(context.now())
    await context.store.create(record(patient(extension=found), "deep", 1, at, "PUT", context))
    urls = ("Patient?_count=9", "Patient/deep", "Patient/deep/_history", "Patient/_history", "_history")
    for url in urls:
        answer = await ask(context, "GET", url, accept=XML)
        assert (answer.status, answer.body.count(b"<family")) == (200, 1)
    for query in ("_summary=true", "_summary=data", "_elements=extension"):
        for url in ("Patient", "Patient/deep"):
            assert b'"id":"deep"' in (await ask(context, "GET", f"{url}?{query}")).body
    for url in ("Patient/deep/$fhirpath?expression=id", "Patient/deep/$meta", "Patient/deep/$everything"):
        assert (await ask(context, "GET", url, accept=XML)).status == 200
    assert (await ask(context, "GET", "Patient/deep/$graphql?query={id}")).status == 200
    sent = [{"op": "remove", "path": "/extension"}]
    mended = await ask(context, "PATCH", "Patient/deep", sent, content_type="application/json-patch+json")
    assert mended.status == 200


async def test_pretty_is_indented(context: Context) -> None:
    """_pretty=true for people."""
    await ask(context, "PUT", "Patient/p1", patient(id="p1"))
    assert b'\n  "id": "p1"' in (await ask(context, "GET", "Patient/p1?_pretty=true")).body


async def test_referential_integrity(store: Store) -> None:
    """When switched on, references to nothing and deletes of what is referred to are refused."""
    context = context_on(store, referential_integrity=True)
    observation = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    refers = observation | {"subject": {"reference": "Patient/p1"}}
    assert (await ask(context, "POST", "Observation", refers)).status == 422
    await ask(context, "PUT", "Patient/p1", patient(id="p1"))
    made = await ask(context, "POST", "Observation", refers)
    assert made.status == 201
    assert (await ask(context, "DELETE", "Patient/p1")).status == 409
    await ask(context, "DELETE", f"Observation/{id_of(made)}")
    assert (await ask(context, "DELETE", "Patient/p1")).status == 204


async def test_a_reference_is_never_left_dangling(store: Store) -> None:
    """delete beside create, aligned: one of the two is refused each time (docs/security.md)."""
    context = context_on(store, referential_integrity=True)
    observation = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    for n in range(10):
        await ask(context, "PUT", f"Patient/q{n}", patient(id=f"q{n}"))
        created, deleted = await asyncio.gather(
            ask(context, "POST", "Observation", observation | {"subject": {"reference": f"Patient/q{n}"}}),
            ask(context, "DELETE", f"Patient/q{n}"),
        )
        assert (created.status, deleted.status) in {(201, 409), (422, 204)}


async def test_an_unexpected_fault_is_a_bare_500(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """No stack trace and no content, but the id of the request."""

    async def broken(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(type(context.store), "get", broken)
    answer = await ask(context, "GET", "Patient/p1")
    assert (answer.status, text_of(answer)) == (500, "An unexpected error occurred; its id is test.")


async def test_binaries_go_in_and_out_as_they_are(context: Context) -> None:
    """Content of any type; FHIR only when it is asked for by name (R4 binary.html#rest)."""
    page = b"<script>alert(1)</script>"
    made = await ask(context, "POST", "Binary", page, content_type="text/html", accept="application/fhir+json")
    assert (made.status, content(made)["contentType"]) == (201, "text/html")
    id = id_of(made)
    raw = await ask(context, "GET", f"Binary/{id}", accept="text/html,*/*;q=0.8")
    assert (raw.status, raw.body, raw.media) == (200, page, "text/html")
    assert raw.headers["Content-Disposition"] == "attachment"
    assert "sandbox" in raw.headers["Content-Security-Policy"]
    assert (await ask(context, "GET", f"Binary/{id}")).body == page
    assert content(await ask(context, "GET", f"Binary/{id}?_format=json"))["resourceType"] == "Binary"
    assert (await ask(context, "GET", f"Binary/{id}", if_none_match='W/"1"')).status == 304
    sent = {"resourceType": "Binary", "id": "b1", "contentType": "a/b\r\nX: y", "data": "eA=="}
    await ask(context, "PUT", "Binary/b1", sent, content_type="application/json")
    strange = await ask(context, "GET", "Binary/b1")
    assert strange.status in (200, 404)
    assert strange.media in ("application/octet-stream", "application/fhir+json; charset=utf-8")
    put = await ask(context, "PUT", "Binary/b2", b'{"a":1}', content_type="application/json")
    assert put.status == 201
    assert (await ask(context, "GET", "Binary/b2")).body == b'{"a":1}'
    assert (await ask(context, "GET", "Binary/none")).status == 404


BINARY = {"resourceType": "Binary", "contentType": "text/plain", "data": "eA=="}
BINARY_XML = b"""<?xml version="1.0"?>\n<!-- x --><%bBinary xmlns%b="http://hl7.org/fhir">
<%bcontentType value="text/plain"/><%bdata value="eA=="/></%bBinary>"""


@pytest.mark.parametrize(
    ("type", "raw"),
    [
        ("application/fhir+json", encode(patient())),
        ("application/fhir+json; charset=utf-8", b'{"cut'),
        ("application/fhir+xml", b'<Patient xmlns="http://hl7.org/fhir"><active value="true"/></Patient>'),
        ("application/json", b'{"a":"Binary"}'),
        ("application/json", b'{"a":{"resourceType":"Binary"}}'),
        ("application/json", b'[{"resourceType":"Binary"}]'),
        ("application/json", b'{"resourceType":{"a":"Binary"}}'),
        ("application/json", b'{"a":' + b"[" * 100_000),
        ("application/geo+json", encode(BINARY)),
        ("text/html", encode(BINARY)),
        ("text/xml", b'<ClinicalDocument xmlns="urn:hl7-org:v3"><Binary/></ClinicalDocument>'),
        ("text/xml", b"<Binary/>"),
        ("application/xml", b"no XML <Binary/>"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_content_is_taken_as_it_is(context: Context, method: str, type: str, raw: bytes) -> None:
    """R4 binary.html#rest: FHIR too is content, but for what is itself a Binary."""
    url = "Binary" if method == "POST" else "Binary/b"
    made = await ask(context, method, url, raw, content_type=type, accept="application/fhir+json")
    assert (made.status, content(made)["contentType"]) == (201, type)
    shown = await ask(context, "GET", f"Binary/{id_of(made)}")
    assert (shown.status, shown.media, shown.body) == (200, type, raw)


@pytest.mark.parametrize(
    ("type", "raw"),
    [
        ("application/fhir+json", encode(BINARY)),
        ("application/json", b"\xef\xbb\xbf " + encode(BINARY)),
        ("application/json", b'{"data":"eA==","contentType":"text/plain","resourceType":"Binary"}'),
        ("text/xml", BINARY_XML % (b"", b"", b"", b"", b"")),
        ("application/fhir+xml", BINARY_XML % (b"f:", b":f", b"f:", b"f:", b"f:")),
    ],
)
async def test_a_binary_resource_is_no_content(context: Context, type: str, raw: bytes) -> None:
    """R4 binary.html#rest: the special case."""
    made = await ask(context, "POST", "Binary", raw, content_type=type, accept="application/fhir+json")
    assert (made.status, content(made)["contentType"]) == (201, "text/plain")
    assert (await ask(context, "GET", f"Binary/{id_of(made)}")).body == b"x"
    cut = await ask(context, "POST", "Binary", raw[:-1], content_type=type)
    assert cut.status == (201 if raw.endswith(b'"Binary"}') else 400)


async def test_operations_on_binaries_take_resources(context: Context) -> None:
    """Only a create and an update take content."""
    asked = {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": BINARY}]}
    for type in ("application/json", "application/fhir+json"):
        answer = await ask(context, "POST", "Binary/$validate", asked, content_type=type)
        assert (answer.status, content(answer)["issue"][0]["severity"]) == (200, "information")


@pytest.mark.parametrize(
    "type",
    [
        "text/plain; charset=utf-8; format=flowed",
        'text/plain; charset="utf-8"',
        'multipart/related; boundary="--=x"; type="text/xml"',
        'multipart/mixed;boundary="a;\\"b, c"',
        "application/x.it's~odd*`|%;;a=b;",
    ],
)
async def test_media_types_have_any_parameters(context: Context, type: str) -> None:
    """RFC 9110 §8.3.1: any number, values as they are or quoted; §5.6.3: white space between them means nothing."""
    made = await ask(context, "POST", "Binary", b"x", content_type=f" {type.replace('; ', '  ;')}")
    assert made.status == 201
    sent = BINARY | {"id": "b", "contentType": type}
    assert (await ask(context, "PUT", "Binary/b", sent, content_type="application/json")).status == 201
    assert (await ask(context, "GET", "Binary/b")).media == type


@pytest.mark.parametrize(
    "type",
    [
        "text",
        "text/",
        "text/plain; a",
        "text/plain; a=",
        'text/plain; a="b',
        'text/plain; a="b" c=d',
        "text/plain, text/html",
        'text/plain; a="\u00fc"',
        "a/b\r\nX: y",
        'a/b;c="\r\nX: y"',
        f"text/plain; a={'b' * 128}",
        "text/plain" + ";a=b" * 200,
    ],
)
async def test_what_is_no_media_type_is_not_sent_back(context: Context, type: str) -> None:
    """415 as a header; from a resource it is content of an unknown type."""
    assert (await ask(context, "POST", "Binary", b"x", content_type=type)).status == 415
    new = record(BINARY | {"contentType": type}, "b", 1, instant(context.now()), "PUT", context)
    await context.store.create(new)
    assert (await ask(context, "GET", "Binary/b")).media == "application/octet-stream"


@pytest.mark.parametrize("query", ["_summary=true", "_summary=text", "_elements=contentType"])
async def test_content_has_no_subsets(context: Context, query: str) -> None:
    """Elements are those of the resource, where that is asked for."""
    await ask(context, "PUT", "Binary/b", b"x", content_type="text/plain")
    for url in (f"Binary/b?{query}", f"Binary/b/_history/1?{query}"):
        shown = await ask(context, "GET", url)
        assert (shown.body, shown.media) == (b"x", "text/plain")
        assert "SUBSETTED" in str(content(await ask(context, "GET", url, accept="application/fhir+json")))


async def test_a_posted_form_names_the_format(context: Context) -> None:
    """R4 http.html#search: parameters of the form and of the URL mean the same; the URL's goes first."""
    form = "application/x-www-form-urlencoded"
    found = await ask(context, "POST", "Patient/_search", b"family=Shaw&_format=xml&_pretty=true", content_type=form)
    assert found.status == 200 and found.body.startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n<Bundle ')
    found = await ask(context, "POST", "Patient/_search?_format=json", b"_format=xml", content_type=form)
    assert found.body.startswith(b"{")
    refused = await ask(context, "POST", "Patient/_search", b"_format=pdf", content_type=form)
    assert refused.status == 406


async def test_a_search_as_ndjson(context: Context) -> None:
    """A resource a line, matches and includes, the next page in a header; 406 for anything but a search."""
    for number in range(3):
        await ask(context, "PUT", f"Patient/n{number}", patient(id=f"n{number}"))
    seen = {"resourceType": "Basic", "id": "b", "code": {"text": "x"}, "subject": {"reference": "Patient/n1"}}
    await ask(context, "PUT", "Basic/b", seen)
    found, url = [], "Patient?_count=2&_sort=_id&_format=ndjson"
    while url:
        answer = await ask(context, "GET", url)
        assert (answer.status, answer.media) == (200, "application/fhir+ndjson; charset=utf-8")
        assert answer.body.endswith(b"\n")
        found += [parse(line)["id"] for line in answer.body.splitlines()]
        url = answer.headers.get("Link", "").partition(">")[0].removeprefix("<")
    assert found == ["n0", "n1", "n2"]
    accept = "application/fhir+ndjson"
    both = await ask(context, "GET", "Basic?_include=Basic:subject", accept=accept)
    assert [parse(line)["id"] for line in both.body.splitlines()] == ["b", "n1"]
    assert (await ask(context, "GET", "Patient?family=None", accept=accept)).body == b""
    warned = await ask(context, "GET", "Patient?_id=n1&nonsense=1", accept=accept, prefer="handling=lenient")
    match, outcome = map(parse, warned.body.splitlines())
    assert (match["id"], outcome["resourceType"]) == ("n1", "OperationOutcome")
    assert "nonsense" in outcome["issue"][0]["diagnostics"]
    wrong = await ask(context, "GET", "Patient?nonsense=1", accept=accept)
    assert (wrong.status, parse(wrong.body)["resourceType"]) == (400, "OperationOutcome")
    for method, place in (("GET", "Patient/n1"), ("GET", "Patient/_history"), ("GET", "metadata"), ("POST", "Patient")):
        refused = await ask(context, method, place, accept=accept)
        assert (refused.status, refused.media) == (406, "application/fhir+json; charset=utf-8")
        assert text_of(refused).startswith("NDJSON is for searches")
    sent = await ask(context, "POST", "Patient", patient(), content_type=accept)
    assert sent.status == 415
