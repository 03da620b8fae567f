"""Ways round the gate that were found by looking for them: each closed, each with its rightful twin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fhir_server.access.gate import Caller
from fhir_server.access.shielding import hidden_keys
from fhir_server.store import Store
from search.params import Registry
from smart_auth import policies
from tests.hospital import Hospital, denial, observation, open_hospital, reference
from tests.shell import bundle_of, content, entry

pytestmark = pytest.mark.anyio


@pytest.fixture
async def hospital(store: Store) -> Hospital:
    return await open_hospital(store)


def kinds_of(answer: Any) -> set[str]:
    return {row["resource"]["resourceType"] for row in content(answer)["entry"] if "resource" in row}


async def test_a_history_of_the_server_shows_granted_types_alone(hospital: Hospital) -> None:
    """Full rights on some types do not open the history of all others."""
    for scope, kinds in (
        ("user/Patient.cruds user/Basic.cruds", {"Patient"}),
        ("user/Patient.rs user/Basic.rs user/Device.rs", {"Patient", "Device"}),
    ):
        few = hospital.caller(scope, "Admin", user="u")
        answer = await hospital.ask(few, "GET", "_history?_count=100")
        assert kinds_of(answer) == kinds
        assert content(answer)["total"] == len(content(answer)["entry"])
    assert len(kinds_of(await hospital.ask(hospital.admin, "GET", "_history?_count=100"))) > 8


@pytest.mark.parametrize("others", [19, 20, 21, 41])
async def test_a_history_skips_nothing_behind_what_is_hidden(hospital: Hospital, others: int) -> None:
    """However many versions of others stand before one's own, the links lead to it, and it is counted."""
    await hospital.ask(hospital.admin, "PUT", "Basic/own", basic("own", "P1"))
    for n in range(others):
        await hospital.ask(hospital.admin, "PUT", f"Basic/b{n}", basic(f"b{n}", "P2"))
    found, url = [], "Basic/_history?_count=1"
    while url:
        page = content(await hospital.ask(hospital.app(), "GET", url))
        found += [row["resource"]["id"] for row in page.get("entry", ())]
        url = next((link["url"] for link in page["link"] if link["relation"] == "next"), "")
    assert found == ["own"]
    counted = content(await hospital.ask(hospital.app(), "GET", "Basic/_history?_summary=count"))
    assert (counted["total"], "entry" in counted) == (1, False)


def basic(identity: str, patient: str) -> dict[str, Any]:
    subject = reference(f"Patient/{patient}")
    return {"resourceType": "Basic", "id": identity, "code": {"text": "x"}, "subject": subject}


async def test_a_history_of_the_server_keeps_consents_about_one_type(hospital: Hospital) -> None:
    """Who sees every Patient, but not this patient's conditions, does not find them in the history of the server."""
    conditions = {"system": "http://hl7.org/fhir/resource-types", "code": "Condition"}
    consent = denial("no", "P2", **{"class": [conditions]})
    assert (await hospital.ask(hospital.admin, "PUT", "Consent/no", consent)).status == 201
    await hospital.gate.refresh()
    body = (await hospital.ask(hospital.admin, "GET", "_history?_count=100")).body
    assert (b"Condition/c2" in body, b"Condition/c1" in body, b"Observation/o2" in body) == (False, True, True)


@pytest.mark.parametrize(
    "scope", ["user/Patient.cruds user/Basic.cruds", "user/*.rs", "user/*.cruds?_id=P1", "patient/*.cruds"]
)
async def test_operations_of_the_operator_need_every_type(hospital: Hospital, scope: str) -> None:
    """$reindex, $expunge, packages and explanations are for who may do everything with everything."""
    for method, url in (
        ("POST", "$reindex"),
        ("GET", "$reindex-status"),
        ("GET", "Patient?_explain=true"),
        ("POST", "Patient/P1/$expunge?expungePreviousVersions=true"),
        ("GET", "ImplementationGuide/$installed"),
    ):
        asked = hospital.caller(scope, "Admin", user="u", patient="P1")
        assert (await hospital.ask(asked, method, url)).status == 403, url
        assert (await hospital.ask(hospital.admin, method, url)).status in (200, 202), url


async def test_t01_an_update_does_not_tell_whether_an_id_is_taken(hospital: Hospital) -> None:
    """PUT with and without If-Match, without the right to create: what is hidden is refused like what is not there."""
    writer = hospital.app("patient/Observation.rus")
    for headers in ({}, {"if_match": 'W/"1"'}, {"if_match": "*"}, {"if_none_match": "*"}):
        answers = [
            await hospital.ask(writer, "PUT", f"Observation/{id}", observation(id, "Patient/P1"), **headers)
            for id in ("o2", "zz")
        ]
        assert answers[0].status == answers[1].status
        assert answers[0].body.replace(b"o2", b"zz") == answers[1].body
        assert answers[0].headers == answers[1].headers
    creator = hospital.app("patient/Observation.cruds")
    for id in ("o2", "zz"):
        asked = await hospital.ask(creator, "PUT", f"Observation/{id}", observation(id, "Patient/P1"), if_match='W/"1"')
        assert asked.status == 412
    own = await hospital.ask(writer, "PUT", "Observation/o1", observation("o1", "Patient/P1", "z"), if_match='W/"1"')
    assert own.status == 200


async def test_s19_bringing_back_what_was_deleted_needs_create(hospital: Hospital) -> None:
    """A PUT on a deleted resource makes it anew: .u alone is 403."""
    assert (await hospital.ask(hospital.app(), "DELETE", "Observation/v1")).status == 204
    again = observation("v1", "Patient/P1")
    assert (await hospital.ask(hospital.app("patient/Observation.rus"), "PUT", "Observation/v1", again)).status == 403
    assert (await hospital.ask(hospital.app("patient/Observation.rus"), "GET", "Observation/v1")).status == 410
    assert (await hospital.ask(hospital.app("patient/Observation.crus"), "PUT", "Observation/v1", again)).status == 201


async def test_an_idempotency_key_is_its_senders(hospital: Hospital) -> None:
    """A key that another caller used is neither told nor in the way; one's own is refused the second time."""
    sent = bundle_of("transaction", entry("POST", "Observation", observation("x", "Patient/P1")))
    statuses = [
        (await hospital.ask(who, "POST", "", sent, idempotency_key="k")).status
        for who in (hospital.app(), hospital.doctor, hospital.app(), hospital.patient("patient/*.cruds", "P2"))
    ]
    assert statuses == [200, 200, 409, 403]


@pytest.mark.parametrize("field", ["focus", "extension"])
@pytest.mark.parametrize(
    "text",
    [
        "Patient/P2/",
        "Patient//P2",
        " Patient/P2",
        "patient/P2",
        "Patient/P2;x",
        "urn:x:Patient/P2",
        "HTTP://A/Patient/P2",
    ],
)
async def test_t11_no_spelling_mentions_another_patient(hospital: Hospital, field: str, text: str) -> None:
    """However a reference to P2 is written, an app for P1 does not get it stored; one to P1 it does."""
    for name, fine in ((text, False), ("Patient/P1", True)):
        value = {"url": "http://x", "valueReference": reference(name)} if field == "extension" else reference(name)
        answer = await hospital.ask(
            hospital.app(), "POST", "Observation", observation("x", "Patient/P1", **{field: [value]})
        )
        assert (answer.status == 201) is fine


def clerk(hospital: Hospital) -> Caller:
    """Sees patients without phone and organization, by a role that forgot the narrative."""
    rows = [
        {"types": ["Patient"], "verbs": "rs", "hidden": ["Patient.telecom", "Patient.managingOrganization"]},
        {"types": ["Organization", "Bundle"], "verbs": "rs"},
    ]
    role = policies.policy({"name": "Clerk", "rows": rows})
    principal = hospital.caller("user/*.cruds", user="x").principal
    return hospital.gate.of_principal(replace(principal, policies=(role,)))


async def test_hidden_elements_are_not_told_in_words(hospital: Hospital) -> None:
    """The narrative goes with what is hidden, and so do elements of resources inside a Bundle."""
    words = '<div xmlns="http://www.w3.org/1999/xhtml">phone 111</div>'
    told = content(await hospital.ask(hospital.admin, "GET", "Patient/P1")) | {
        "text": {"status": "generated", "div": words}
    }
    bundle = bundle_of("collection", {"fullUrl": "http://test/fhir/Patient/P1", "resource": told}) | {"id": "b"}
    for url, resource in (("Patient/P1", told), ("Bundle/b", bundle)):
        assert (await hospital.ask(hospital.admin, "PUT", url, resource)).status in (200, 201)
    for url in (
        "Patient/P1",
        "Patient/P1/_history",
        "Patient?_id=P1&_summary=text",
        "Patient?_id=P1&_elements=text",
        "Patient/P1/$fhirpath?expression=text",
        "$graphql?query={Patient(id: P1) {text {div} telecom {value}}}",
        "Patient/P1/$everything",
        "Patient/P1/$summary",
        "Bundle/b",
    ):
        answer = await hospital.ask(clerk(hospital), "GET", url)
        assert answer.status == 200
        assert (b"111" in answer.body, b"SUBSETTED" in answer.body or "$" in url) == (False, True), url
        assert b"111" in (await hospital.ask(hospital.admin, "GET", url)).body or "telecom" in url or "summary" in url


async def test_everything_does_not_follow_hidden_references(hospital: Hospital) -> None:
    """What only a hidden reference leads to is not in $everything; for others it is."""
    for url in ("Patient/P1/$everything", "Patient/$everything"):
        assert b'"id":"org"' not in (await hospital.ask(clerk(hospital), "GET", url)).body
        assert b'"id":"org"' in (await hospital.ask(hospital.doctor, "GET", url)).body


async def test_a_binary_is_as_hidden_as_what_it_stands_for(hospital: Hospital) -> None:
    """securityContext: who may not see the observation does not see its Binary on any path; who may, does."""
    for id, context in (("secret", "Observation/r1"), ("plain", "Observation/o1"), ("lost", "Observation/zz")):
        body = {"resourceType": "Binary", "id": id, "contentType": "text/plain", "data": "AAAA"}
        sent = body | {"securityContext": reference(context)}
        assert (await hospital.ask(hospital.admin, "PUT", f"Binary/{id}", sent)).status == 201
    for caller, sees in ((hospital.nurse, {"plain"}), (hospital.doctor, {"plain", "secret"})):
        for id in ("secret", "plain", "lost"):
            for url in (f"Binary/{id}", f"Binary/{id}/_history/1", f"Binary/{id}/_history", f"Binary/{id}/$meta"):
                assert (await hospital.ask(caller, "GET", url)).status == (200 if id in sees else 404), url
        assert await hospital.ids(caller, "Binary") == {f"Binary/{id}" for id in sees}
        assert content(await hospital.ask(caller, "GET", "Binary?_total=accurate"))["total"] == len(sees)
        found = content(await hospital.ask(caller, "GET", "Binary/_history"))
        assert {row["resource"]["id"] for row in found["entry"]} == sees
        graph = await hospital.ask(caller, "GET", "$graphql?query={BinaryList {id}}")
        assert {id for id in ("secret", "plain", "lost") if id.encode() in graph.body} == sees
    assert await hospital.ids(hospital.admin, "Binary") == {"Binary/secret", "Binary/plain", "Binary/lost"}
    made = {"resourceType": "Binary", "contentType": "text/plain", "data": "BBBB"}
    again = await hospital.ask(hospital.doctor, "POST", "Binary", made, if_none_exist="_id=plain")
    assert (again.status, b"AAAA" in again.body) == (200, True)


async def test_closure_tables_are_their_owners(hospital: Hospital) -> None:
    """A table of the same name is another one for another client or user: nobody resets or reads it."""

    async def closed(caller: Caller, *rows: dict[str, Any]) -> Any:
        named = {"name": "name", "valueString": "mine"}
        body = {"resourceType": "Parameters", "parameter": [named, *rows]}
        return await hospital.ask(caller, "POST", "$closure", body)

    concept = {"name": "concept", "valueCoding": {"system": "http://loinc.org", "code": "a"}}
    assert (await closed(hospital.doctor)).status == 200
    assert (await closed(hospital.doctor, concept)).status in (200, 400, 422)
    assert (await closed(hospital.nurse, concept)).status == 404
    assert (await closed(hospital.nurse)).status == 200
    assert (await closed(hospital.doctor, {"name": "version", "valueString": "0"})).status == 200
    assert (await closed(hospital.app(), {"name": "version", "valueString": "0"})).status == 404


@pytest.mark.parametrize(
    "clause",
    [
        "subject.family=Lovelace",
        "_list=l2",
        "_has:Observation:has-member:code=a",
        "code:in=http://nowhere",
        "nonsense=1",
        "_text=x",
    ],
)
async def test_s03_a_filter_that_cannot_be_judged_grants_nothing(hospital: Hospital, clause: str) -> None:
    """A scope or a role with such a filter shows nothing on any path, and is no fault of the server."""
    rows = [{"types": ["Observation"], "verbs": "crus", "where": [clause]}]
    role = policies.policy({"name": "Odd", "rows": rows})
    principal = hospital.caller("user/*.cruds", user="x").principal
    for caller in (
        hospital.app(f"patient/Observation.cruds?{clause}"),
        hospital.gate.of_principal(replace(principal, policies=(role,))),
    ):
        for url in ("Observation/o1", "Observation/o1/_history", "Observation/o1/$meta"):
            assert (await hospital.ask(caller, "GET", url)).status in (403, 404), url
        assert await hospital.ids(caller, "Observation") == set()
        made = await hospital.ask(caller, "POST", "Observation", observation("x", "Patient/P1"))
        assert made.status == 403
    fine = hospital.app("patient/Observation.cruds?code=a")
    assert (await hospital.ask(fine, "GET", "Observation/o1")).status == 200


def custom(code: str, base: str, expression: str, *components: str) -> dict[str, Any]:
    return {
        "resourceType": "SearchParameter",
        "url": f"http://x.example/{code}",
        "code": code,
        "type": "composite" if components else "string",
        "base": [base],
        "expression": expression,
        "component": [
            {"definition": "http://hl7.org/fhir/SearchParameter/individual-address-city", "expression": each}
            for each in components
        ],
    }


@pytest.mark.parametrize(
    ("made", "tells"),
    [
        (custom("x", "Patient", "Patient.address.city"), True),
        (custom("x", "Patient", "Patient.children().city"), True),
        (custom("x", "Patient", "Patient.descendants().ofType(string)"), True),
        (custom("x", "Patient", "Patient.select(%resource.repeat($this)).city"), True),
        (custom("x", "Resource", "Resource.children().city"), True),
        (custom("x", "DomainResource", "DomainResource.contained.children().city"), True),
        (custom("x", "Observation", "Observation.contained.children().city"), True),
        (custom("x", "Patient", "Patient.link", "%resource.address.city", "type"), True),
        (custom("x", "Patient", "Patient.link", "%resource.children().city", "type"), True),
        (custom("x", "Patient", "Patient.telecom.where(use = 'home').value"), True),
        (custom("x", "Patient", "Patient.telecom.value"), False),
        (custom("x", "Patient", "Patient.link", "type", "type"), False),
        (custom("x", "Observation", "Observation.note.text"), False),
    ],
)
def test_no_search_parameter_tells_of_hidden_elements(made: dict[str, Any], tells: bool) -> None:
    """One of the house's own looks at them by any way that FHIRPath knows; those of R4 stay as they are."""
    registry = Registry.r4().with_parameters([made])
    keys = hidden_keys("Patient", ["Patient.address", "Patient.telecom.use"], registry)
    [base] = made["base"]
    own = registry.lookup("Observation" if base == "Observation" else "Patient", "x")
    assert own is not None
    assert bool(set(own.keys) & keys) is tells
    r4 = [registry.lookup("Patient", code) for code in ("address-city", "name", "birthdate", "phone", "deceased")]
    assert [bool(set(each.keys) & keys) for each in r4 if each] == [True, False, False, True, False]
