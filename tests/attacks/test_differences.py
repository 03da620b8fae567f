"""What a caller may not see changes no answer: servers that differ in nothing else tell the same, byte for byte.

`test_access_oracle.py` asks whether a narrow caller finds what is there for them; here every path is asked: operations,
GraphQL, histories, conditions, Bundles, links of pages. FHIR_SEED makes other requests out of the same parts.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeAlias

import pytest

from fhir_server.access.gate import Caller
from fhir_server.store import Store, open_store
from profiles.json import parse
from tests.hospital import LAB, RESTRICTED, VITAL, Hospital, condition, encounter, observation, open_hospital, reference
from tests.shell import bundle_of, entry

pytestmark = pytest.mark.anyio
Resource: TypeAlias = dict[str, Any]
# Method, address, what is sent, headers.
Asked: TypeAlias = tuple[str, str, Any, dict[str, str]]
SEED = int(os.environ.get("FHIR_SEED", "0"))
REQUESTS = 200  # of a caller
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LAB_TOKEN = "http://terminology.hl7.org/CodeSystem/observation-category|laboratory"
SECRET = {"security": [RESTRICTED], "tag": [{"system": "http://t", "code": "hidden"}], "profile": ["http://hidden"]}
DORA = [reference("Practitioner/D1")]


def patient(identity: str, family: str, **more: Any) -> Resource:
    named = {"identifier": [{"system": "http://x", "value": identity}], "name": [{"family": family}]}
    own = {"managingOrganization": reference("Organization/org"), "generalPractitioner": DORA}
    return {"resourceType": "Patient", "id": identity, **named, **own, "birthDate": "1970-01-01", **more}


def measured(identity: str, owner: str, code: str, value: int, **more: Any) -> Resource:
    fields = {"valueQuantity": {"value": value, "code": "g", "system": "http://unitsofmeasure.org"}, "performer": DORA}
    named = {"identifier": [{"system": "http://x", "value": identity}]}
    return observation(identity, owner, code, **fields, **named, **more)


def listing(identity: str, owner: str, *items: str, **more: Any) -> Resource:
    own = {"status": "current", "mode": "working", "subject": reference(owner)}
    return {"resourceType": "List", "id": identity, **own, "entry": [{"item": reference(i)} for i in items], **more}


def composition(identity: str, owner: str, *items: str, **more: Any) -> Resource:
    own = {"status": "final", "type": {"text": "x"}, "date": "2026-01-01", "title": "T", "subject": reference(owner)}
    section = [{"title": "s", "entry": [reference(item) for item in items]}]
    return {"resourceType": "Composition", "id": identity, **own, "author": DORA, "section": section, **more}


def binary(identity: str, owner: str, **more: Any) -> Resource:
    content = {"contentType": "text/plain", "data": "aGk=", "securityContext": reference(owner)}
    return {"resourceType": "Binary", "id": identity, **content, **more}


SHARED: list[Resource] = [
    {"resourceType": "Organization", "id": "org", "name": "Clinic"},
    {"resourceType": "Practitioner", "id": "D1", "name": [{"family": "Dora"}]},
]
OWN: list[Resource] = [
    patient("P1", "Lovelace"),
    encounter("e1", "Patient/P1"),
    measured("o1", "Patient/P1", "a", 5, encounter=reference("Encounter/e1"), effectiveDateTime="2026-01-01"),
    measured("o3", "Patient/P1", "b", 7, effectiveDateTime="2026-02-01"),
    measured("mix", "Patient/P1", "b", 9, hasMember=[reference("Observation/o2"), reference("Observation/o1")]),
    condition("c1", "Patient/P1", code={"text": "flu"}),
    composition("k1", "Patient/P1", "Observation/o1", "Observation/o2", "Condition/c2"),
    listing("l1", "Patient/P1", "Observation/o1", "Observation/o2", "Patient/P2"),
    binary("b1", "Patient/P1", meta={"tag": [{"system": "http://t", "code": "own"}]}),
]
OTHERS: list[Resource] = [
    patient("P2", "Bell", link=[{"other": reference("Patient/P1"), "type": "seealso"}], meta=SECRET),
    encounter("e2", "Patient/P2") | {"meta": SECRET},
    measured("o2", "Patient/P2", "b", 99, category=[VITAL], hasMember=[reference("Observation/o1")], meta=SECRET),
    measured("o4", "Patient/P2", "a", 98, category=[VITAL], focus=[reference("Patient/P1")], meta=SECRET),
    measured("o5", "Patient/P2", "zz", 97, category=[VITAL], encounter=reference("Encounter/e1"), meta=SECRET),
    condition("c2", "Patient/P2", code={"text": "hidden"}, meta=SECRET),
    composition("k2", "Patient/P2", "Observation/o1", meta=SECRET),
    listing("l2", "Patient/P2", "Observation/o1", meta=SECRET),
    binary("b2", "Patient/P2", meta=SECRET),
    {"resourceType": "Device", "id": "dev2", "patient": reference("Patient/P2"), "meta": SECRET},
    {"resourceType": "Group", "id": "g2", "type": "person", "actual": True, "meta": SECRET}
    | {"member": [{"entity": reference("Patient/P1")}, {"entity": reference("Patient/P2")}]},
]

CALLERS: dict[str, tuple[Callable[[Hospital], Caller], Callable[[Resource], bool]]] = {
    "an app": (lambda h: h.app(), lambda r: r not in OTHERS),
    "a reading app": (lambda h: h.app("patient/*.rs"), lambda r: r not in OTHERS),
    "the patient": (lambda h: h.patient("user/*.cruds"), lambda r: r not in OTHERS),
    "a nurse": (lambda h: h.nurse, lambda r: r not in OTHERS),
    "a laboratory app": (
        lambda h: h.app(f"patient/Observation.rs?category={LAB_TOKEN}"),
        lambda r: r in OWN and r["resourceType"] == "Observation" and LAB in r["category"],
    ),
    "a backend": (
        lambda h: h.caller(f"system/Practitioner.rs system/Observation.rs?category={LAB_TOKEN}", "System"),
        lambda r: r["resourceType"] == "Practitioner" or LAB in r.get("category", ()),
    ),
    "a writer": (lambda h: h.app("patient/Observation.c"), lambda r: False),
}

NAMES = [f"{r['resourceType']}/{r['id']}" for r in SHARED + OWN + OTHERS] + ["Observation/none", "Patient/none"]
KINDS = sorted({name.partition("/")[0] for name in NAMES} | {"AuditEvent", "Consent", "Provenance"})
OF_ONE = (
    "", "/_history", "/_history/1", "/_history/2", "/$meta", "/$validate", "/$diff", "/$everything", "/$document",
    "/$summary", "/$fhirpath?expression=id", "/$validate?mode=delete", "/$graphql?query={id}", "/$lastn", "/$expunge",
    "/Observation", "/*?_total=accurate", "/$graph?graph=x", "/$everything?_count=1",
)  # fmt: skip
OF_MANY = (
    "", "?_total=accurate&_count=1", "?_summary=count", "/_history", "/_history?_count=1", "/$meta",
    "?_include=*&_revinclude=*&_include:iterate=*", "?_sort=-_id&_count=1", "?_tag=http://t|hidden",
    "?_tag:not=http://t|hidden", "?_profile=http://hidden", "?_security=R", "?_content=hidden", "?_text=hidden",
    "?_filter=not (_id eq o1)", "?_contained=both", "?_explain=true", "?_elements=id", "?_total=estimate&_count=2",
)  # fmt: skip
BY_ONE = (
    "Observation?_list={id}", "Observation?has-member={name}", "Observation?_filter=has-member re {name}",
    "Observation?_has:List:item:_id={id}", "Observation?_has:Observation:has-member:_id={id}", "{kind}?_id={id}",
    "Observation?focus={name}", "{kind}?_id={id}&_summary=count", "$diff?from=Observation/o1&to={name}",
    "Patient?_has:{kind}:patient:_id={id}", "Observation/$lastn?subject={name}", "?_id={id}&_type={kind}",
    "Observation/$stats?subject={name}&code=b&system=http://loinc.org&statistic=count",
    '$graphql?query={{{kind}(id:"{id}"){{id}}}}', '$graphql?query={{ObservationList(subject:"{name}"){{id}}}}',
)  # fmt: skip
SEARCHES = (
    "Patient?_has:Observation:patient:code=b", "Practitioner?_has:Observation:performer:code=zz",
    "Practitioner?_has:Patient:general-practitioner:family=Bell", "Organization?_has:Patient:organization:family=Bell",
    "Observation?has-member.code=b", "Observation?subject:Patient.family=Bell", "Observation?patient:not=Patient/P1",
    "Observation?_filter=patient.family eq Bell", "Encounter?_has:Observation:encounter:code=zz",
    "Encounter?_revinclude=Observation:encounter", "Observation?_sort=patient.family&_count=1", "List?item.code=b",
    "List?item:Patient.family=Bell", "List?_include=List:item", "Composition?entry.code=b", "Patient?link.family=Bell",
    "Composition?_include=Composition:entry", "Patient?_revinclude=Patient:link", "Observation?value-quantity=gt50",
    "Patient?identifier=http://x|P2,http://x|P1&_total=accurate", "?_type=Observation,Patient&_count=2&_total=accurate",
    "_history?_count=1", "_history", "$meta", "?_content=Bell", "Organization?_revinclude=Patient:organization",
    "$graphql?query={PractitionerList{id ObservationList(_reference:performer){id}}}",
    "$graphql?query={EncounterList{id ObservationConnection(_reference:encounter){count}}}",
    "$graphql?query={PatientList{id PatientList(_reference:link){id} ListList(_reference:subject){id}}}",
    '$graphql?query={Observation(id:"mix"){hasMember{reference resource(optional:true){__typename}}}}',
)  # fmt: skip


def looks() -> Iterator[Asked]:
    """Whatever is only looked at."""
    for name in NAMES:
        kind, _, id = name.partition("/")
        yield from (("GET", name + path, None, {}) for path in OF_ONE)
        yield from (("GET", path.format(name=name, kind=kind, id=id), None, {}) for path in BY_ONE)
        for header in ({"if_none_match": 'W/"1"'}, {"if_modified_since": "Sat, 02 May 2026 00:00:00 GMT"}):
            yield "GET", name, None, header
    yield from (("GET", kind + path, None, {}) for kind in KINDS for path in OF_MANY)
    yield from (("GET", path, None, {}) for path in SEARCHES)


def new(owner: str, *members: str) -> Resource:
    made = observation("x", owner, "n", hasMember=[reference(name) for name in members])
    return {name: value for name, value in made.items() if name != "id" and value}


def writes() -> Iterator[Asked]:
    """Writes and checks whose outcome could tell of what is there."""
    for owner in ("Patient/P1", "Patient/P2", "Patient/none", "Patient?identifier=http://x|P2"):
        yield "POST", "Observation", new(owner), {}
        yield "POST", "Observation/$validate", new(owner), {}
        for kind in ("batch", "transaction"):
            yield "POST", "", bundle_of(kind, entry("POST", "Observation", new(owner))), {}
    patch: Asked = ("PATCH", "", [{"op": "test", "path": "/status", "value": "x"}], {})
    for id in ("o2", "o4", "none"):
        name, sought = f"Observation/{id}", f"identifier=http://x|{id}"
        yield "POST", "Observation", new("Patient/P1", name), {}
        yield "POST", "Observation/$validate", new("Patient/P1", name), {}
        yield "POST", "Observation", new("Patient/P1"), {"if_none_exist": sought}
        yield "PUT", f"Observation?{sought}", new("Patient/P1"), {}
        yield "PUT", name, new("Patient/P1") | {"id": id}, {"if_match": 'W/"1"'}
        yield "DELETE", f"Observation?{sought}", None, {}
        yield "DELETE", name, None, {"if_match": 'W/"9"'}
        for path in (name, f"Observation?{sought}"):
            yield "PATCH", path, patch[2], {"content_type": "application/json-patch+json"}
        expression = {"name": "expression", "valueString": "hasMember.resolve().exists()"}
        parts = [expression, {"name": "resource", "resource": new("Patient/P1", name)}]
        yield "POST", "$fhirpath", {"resourceType": "Parameters", "parameter": parts}, {}
        rows = [
            entry("GET", name),
            entry("POST", "Observation", new("Patient/P1"), ifNoneExist=sought),
            entry("POST", "Observation", new("Patient/P1", f"Observation?{sought}")),
        ]
        for kind in ("batch", "transaction"):
            yield from (("POST", "", bundle_of(kind, row), {}) for row in rows)


@pytest.fixture
async def second(mongo_url: str, database: str) -> AsyncIterator[Store]:
    """A further empty store."""
    from pymongo import MongoClient

    opened = await open_store(mongo_url, f"{database}_b")
    yield opened
    await opened.close()
    with MongoClient[Any](mongo_url) as client:
        client.drop_database(f"{database}_b")


async def filled(store: Store, rows: list[Resource], integrity: bool) -> Hospital:
    hospital = await open_hospital(store, [])
    hospital.context = replace(hospital.context, now=lambda: NOW)
    for row in rows:
        answer = await hospital.ask(hospital.admin, "PUT", f"{row['resourceType']}/{row['id']}", row)
        assert answer.status == 201, answer.body
    config = hospital.context.config.model_copy(update={"referential_integrity": integrity})
    hospital.context = replace(hospital.context, config=config)
    return hospital


CHANCE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|_page=[^\"&]*")


async def told(hospital: Hospital, caller: Caller, asked: Asked) -> list[Any]:
    """All that the answer and the pages after it tell, but for what is drawn by chance."""
    method, url, sent, headers = asked
    pages: list[Any] = []
    while not pages or (url and len(pages) < 40):
        answer = await hospital.ask(caller, method, url, sent, **headers)
        head = {name: CHANCE.sub("", value) for name, value in answer.headers.items()}
        pages.append((answer.status, head, CHANCE.sub("", bytes(answer.body).decode())))
        found: Any = parse(answer.body) if answer.body[:1] == b"{" and answer.status == 200 else {}
        links = found.get("link", ()) if found.get("resourceType") == "Bundle" and method == "GET" else ()
        url = next((link["url"] for link in links if link.get("relation") == "next"), "")
    return pages


@pytest.mark.parametrize("name", CALLERS)
async def test_what_is_hidden_changes_no_answer(store: Store, second: Store, name: str) -> None:
    """The same caller at a server with others' data and at one without; a part of all requests each time."""
    make, sees = CALLERS[name]
    luck = random.Random(SEED + len(name))
    # Who may delete learns from a refusal that something refers to it, and no more (T29).
    integrity = name != "an app" and luck.random() < 0.5
    everything = SHARED + OWN + OTHERS
    full = await filled(store, everything, integrity)
    part = await filled(second, [row for row in everything if sees(row)], integrity)
    asked = luck.sample([*looks()], REQUESTS) + luck.sample([*writes()], 30)
    answers = [[await told(hospital, make(hospital), each) for each in asked] for hospital in (full, part)]
    for each, mine, theirs in zip(asked, *answers, strict=True):
        assert mine == theirs, (name, each)
    assert {pages[0][0] for pages in answers[0]} - {200, 201, 204, 304} <= {400, 403, 404, 405, 409, 412, 422}
    assert sum(pages[0][0] < 300 for pages in answers[0]) >= 3
