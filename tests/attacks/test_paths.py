"""docs/security.md and §5 T: the paths by which others' servers leaked, each closed, and open for who may."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from fhir_server.store import Store
from profiles.json import parse
from smart_auth import policies
from tests.hospital import LAB, RESTRICTED, VITAL, Hospital, condition, letter, observation, open_hospital, reference
from tests.packing import guide
from tests.shell import bundle_of, constraint, content, entry

pytestmark = pytest.mark.anyio
JSON_PATCH = "application/json-patch+json"


async def status(hospital: Hospital, caller: Any, method: str, url: str, resource: Any = None, **headers: str) -> int:
    return (await hospital.ask(caller, method, url, resource, **headers)).status


def blind(hospital: Hospital, *hidden: str) -> Any:
    """A caller who may write patients and does not see some of their elements."""
    role = {"name": "Desk", "rows": [{"types": ["Patient"], "verbs": "crds", "hidden": list(hidden)}]}
    role["rows"].append({"types": ["Observation", "Condition"], "verbs": "cruds"})  # type: ignore[attr-defined]
    caller = hospital.caller("user/*.cruds", "Nurse", user="desk")
    object.__setattr__(caller.principal, "policies", (policies.policy(role),))
    return caller


async def test_conditional_forms_are_no_oracle_for_hidden_elements(hospital: Hospital) -> None:
    """If-None-Exist, conditional delete and conditional references by a hidden element are refused."""
    desk = blind(hospital, "Patient.telecom")
    new = {"resourceType": "Patient", "name": [{"family": "New"}]}
    assert await status(hospital, desk, "POST", "Patient", new, if_none_exist="phone=111") == 403
    assert await status(hospital, desk, "DELETE", "Patient?phone=111") == 403
    about = entry("POST", "Condition", condition("x", "Patient?phone=111"))
    assert await status(hospital, desk, "POST", "", bundle_of("transaction", about)) == 403
    found = await hospital.ask(desk, "POST", "Patient", new, if_none_exist="family=Lovelace")
    assert found.status == 200
    assert b"telecom" not in found.body
    about = entry("POST", "Condition", condition("x", "Patient?family=Lovelace"))
    assert await status(hospital, desk, "POST", "", bundle_of("transaction", about)) == 200


async def test_operations_do_not_search_by_hidden_elements(hospital: Hospital) -> None:
    """$lastn chained over a hidden element is refused; the plain one answers."""
    tech = hospital.caller("user/*.cruds", "Lab technician", user="t")
    assert await status(hospital, tech, "GET", "Observation/$lastn?patient=P1&subject:Patient.phone=111") == 403
    assert await status(hospital, tech, "GET", "Observation/$lastn?patient=P1") == 200


async def test_hidden_elements_of_contained_resources(hospital: Hospital) -> None:
    """A contained Patient shows no more than a Patient would, by read, search, $fhirpath and $diff."""
    inside = {"resourceType": "Patient", "id": "p", "telecom": [{"value": "+1555"}], "name": [{"family": "Inner"}]}
    body = observation("holder", "#p", contained=[inside])
    assert await status(hospital, hospital.admin, "PUT", "Observation/holder", body) == 201
    assert await status(hospital, hospital.admin, "PUT", "Observation/holder", body | {"status": "amended"}) == 200
    tech = hospital.caller("user/*.cruds", "Lab technician", user="t")
    for url in (
        "Observation/holder",
        "Observation?_id=holder",
        "Observation/holder/_history",
        "Observation/holder/$fhirpath?expression=contained",
        "Patient?_contained=true&family=Inner",
        "Patient?_contained=true&_containedType=contained&family=Inner",
    ):
        answer = await hospital.ask(tech, "GET", url)
        assert answer.status == 200, (url, answer.body)
        assert b"Inner" in answer.body, url
        assert b"+1555" not in answer.body, url
        assert b"+1555" in (await hospital.ask(hospital.doctor, "GET", url)).body, url
    assert b"+1555" not in (await hospital.ask(tech, "GET", "Observation/holder/$diff")).body


async def test_diff_and_fhirpath_show_what_a_read_would(hospital: Hospital) -> None:
    """$diff of two resources, or of versions with hidden elements, tells nothing more; the type has to be granted."""
    root = hospital.admin
    body: Any = parse((await hospital.ask(root, "GET", "Patient/P1")).body)
    changed = body | {"telecom": [{"system": "phone", "value": "999"}], "gender": "female"}
    assert await status(hospital, root, "PUT", "Patient/P1", changed) == 200
    tech = hospital.caller("user/*.cruds", "Lab technician", user="t")
    answer = await hospital.ask(tech, "GET", "Patient/P1/$diff")
    assert answer.status == 200
    assert b"female" in answer.body
    assert b"999" not in answer.body
    app = hospital.app("patient/Observation.rs")
    assert await status(hospital, app, "GET", "$diff?from=Patient/P1&to=Patient/P1/_history/1") == 403
    assert await status(hospital, app, "GET", "$diff?from=Observation/o1&to=Observation/o2") == 404
    assert await status(hospital, app, "GET", "$diff?from=Observation/o1&to=Observation/v1") == 200
    assert await status(hospital, hospital.app("patient/Observation.s"), "GET", "$diff?from=Observation/o1") == 403


async def test_stats_counts_what_a_search_would_find(hospital: Hospital) -> None:
    """$stats over P2 is empty for an app of P1, and hidden labels are not counted; the twin counts its own."""
    value = {"value": 5, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"}
    for name, owner, more in (
        ("s1", "P1", {}),
        ("s2", "P1", {"meta": {"security": [RESTRICTED]}}),
        ("s3", "P2", {}),
    ):
        body = observation(name, f"Patient/{owner}", "k", valueQuantity=value, **more)
        assert await status(hospital, hospital.admin, "PUT", f"Observation/{name}", body) == 201

    async def counted(caller: Any, patient: str) -> int:
        url = f"Observation/$stats?subject=Patient/{patient}&code=k&statistic=count&include=true"
        answer = await hospital.ask(caller, "GET", url)
        assert answer.status == 200, answer.body
        return answer.body.count(b'"name":"source"')

    assert await counted(hospital.app(role="Nurse"), "P1") == 1
    assert await counted(hospital.app(), "P1") == 2
    assert await counted(hospital.app(), "P2") == 0
    assert await counted(hospital.doctor, "P2") == 1
    assert await status(hospital, hospital.app("patient/Patient.rs"), "GET", "Observation/$stats?subject=P1") == 403


async def test_expunge_is_for_callers_without_limits(hospital: Hospital) -> None:
    """$expunge is 403 for apps and roles, also in a batch; an administrator may, whatever consents are in force."""
    all_of_it = {"resourceType": "Parameters", "parameter": [{"name": "expungeEverything", "valueBoolean": True}]}
    for caller in (hospital.app(), hospital.doctor, hospital.nurse, hospital.patient()):
        assert await status(hospital, caller, "POST", "Condition/c2/$expunge", all_of_it) == 403
        row = entry("POST", "Condition/c2/$expunge", all_of_it)
        told = content(await hospital.ask(caller, "POST", "", bundle_of("batch", row)))
        assert told["entry"][0]["response"]["status"][:3] == "403"
    consent = {
        "resourceType": "Consent",
        "id": "no",
        "status": "active",
        "scope": {"coding": [{"code": "patient-privacy"}]},
        "category": [{"text": "x"}],
        "patient": reference("Patient/P1"),
        "policyRule": {"coding": [{"code": "OPTOUT"}]},
    }
    assert await status(hospital, hospital.admin, "PUT", "Consent/no", consent) == 201
    await hospital.gate.refresh()
    assert await status(hospital, hospital.admin, "POST", "Condition/c1/$expunge", all_of_it) == 404
    assert await status(hospital, hospital.admin, "POST", "Condition/c2/$expunge", all_of_it) == 200


async def test_a_reference_check_is_no_oracle(store: Store) -> None:
    """With referential integrity, what the caller may not see is as unknown as what never was; the own is known."""
    hospital = await open_hospital(store)
    object.__setattr__(hospital.context.config, "referential_integrity", True)
    app = hospital.app()
    told = []
    for name in ("o2", "zz"):
        body = observation("x", "Patient/P1", hasMember=[reference(f"Observation/{name}")])
        answer = await hospital.ask(app, "POST", "Observation", body)
        told.append((answer.status, answer.body.replace(name.encode(), b"?")))
    assert told[0] == told[1]
    assert told[0][0] == 422
    own = observation("x", "Patient/P1", hasMember=[reference("Observation/o1")])
    assert await status(hospital, app, "POST", "Observation", own) == 201
    both = observation("mix", "Patient/P1", "z", hasMember=[reference("Observation/o2")])
    assert await status(hospital, app, "PUT", "Observation/mix", both) == 200


async def test_t29_a_delete_that_is_refused_names_nobody(store: Store) -> None:
    """Deleting what only invisible resources refer to is a 409 without their names."""
    hospital = await open_hospital(store)
    object.__setattr__(hospital.context.config, "referential_integrity", True)
    body = observation("secret", "Patient/P2", focus=[reference("Condition/c1")])
    assert await status(hospital, hospital.admin, "PUT", "Observation/secret", body) == 201
    answer = await hospital.ask(hospital.app(), "DELETE", "Condition/c1")
    assert answer.status == 409
    assert b"secret" not in answer.body
    assert b"P2" not in answer.body
    assert await status(hospital, hospital.admin, "DELETE", "Observation/secret") == 204
    assert await status(hospital, hospital.app(), "DELETE", "Condition/c1") == 204


async def test_validation_resolves_what_the_caller_may_read(hospital: Hospital) -> None:
    """A profile that looks at the target of a reference finds no target where the caller may not read it."""
    rule = {
        "key": "bell-1",
        "severity": "error",
        "human": "Bell",
        "expression": "subject.resolve().name.where(family='Bell').empty()",
    }
    root = {"id": "Condition", "path": "Condition", "constraint": [rule]}
    profile = constraint("http://x/strict", root, type="Condition")
    assert await status(hospital, hospital.admin, "PUT", "StructureDefinition/strict", profile) == 201
    sent = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "resource", "resource": condition("x", "Patient/P2")},
            {"name": "profile", "valueUri": "http://x/strict"},
        ],
    }
    answer = await hospital.ask(hospital.app(), "POST", "Condition/$validate", sent)
    assert answer.status == 200
    assert b"bell-1" not in answer.body
    assert b"bell-1" in (await hospital.ask(hospital.doctor, "POST", "Condition/$validate", sent)).body


async def test_a_writer_who_may_not_read_is_shown_nothing(hospital: Hospital) -> None:
    """A patch that changes nothing with .u alone is refused; with .ru it returns the content."""
    for scope, shown in (("patient/Observation.u", False), ("patient/Observation.ru", True)):
        patch = [{"op": "test", "path": "/status", "value": "final"}]
        answer = await hospital.ask(hospital.app(scope), "PATCH", "Observation/o1", patch, content_type=JSON_PATCH)
        assert answer.status == (200 if shown else 403)
        assert (b"loinc" in answer.body) is shown


async def test_patch_tests_do_not_see_hidden_elements(hospital: Hospital) -> None:
    """Who is not shown an element cannot patch the type at all, so no test operation guesses it; others can."""
    desk = blind(hospital, "Patient.telecom")
    for value in ("111", "000"):
        patch = [{"op": "test", "path": "/telecom/0/value", "value": value}]
        assert await status(hospital, desk, "PATCH", "Patient/P1", patch, content_type=JSON_PATCH) == 403
    patch = [{"op": "test", "path": "/telecom/0/value", "value": "111"}]
    assert await status(hospital, hospital.doctor, "PATCH", "Patient/P1", patch, content_type=JSON_PATCH) == 200


async def test_a_document_carries_the_labels_of_what_is_in_it(hospital: Hospital) -> None:
    """$document of a restricted observation is itself restricted, so that keeping it declassifies nothing."""
    document = letter("Observation/r1")
    assert await status(hospital, hospital.admin, "PUT", "Composition/doc", document) == 201
    made = content(await hospital.ask(hospital.doctor, "GET", "Composition/doc/$document"))
    assert made["meta"]["security"] == [RESTRICTED]
    nurse = content(await hospital.ask(hospital.nurse, "GET", "Composition/doc/$document"))
    assert "meta" not in nurse
    assert "Observation" not in {row["resource"]["resourceType"] for row in nurse["entry"]}


@pytest.mark.parametrize(
    "system",
    [
        "http://terminology.hl7.org/CodeSystem/v3-ActCode",
        "http://hl7.org/fhir/v3/ActCode",
        None,
    ],
)
async def test_labels_hold_however_their_system_is_written(hospital: Hospital, system: str | None) -> None:
    """A sensitive label under an old url or none hides as well; an unknown label does not."""
    label = {"code": "HIV"} | ({"system": system} if system else {})
    for name, security in (("secret", label), ("open", {"system": "http://x", "code": "blue"})):
        body = condition(name, "Patient/P1", meta={"security": [security]})
        assert await status(hospital, hospital.admin, "PUT", f"Condition/{name}", body) == 201
    assert await status(hospital, hospital.nurse, "GET", "Condition/secret") == 404
    assert await status(hospital, hospital.nurse, "GET", "Condition/open") == 200
    assert await status(hospital, hospital.doctor, "GET", "Condition/secret") == 200
    assert await hospital.ids(hospital.nurse, "Condition?patient=P1") == {"Condition/c1", "Condition/open"}


async def test_page_links_belong_to_the_rights_they_were_made_with(hospital: Hospital) -> None:
    """The same user with a narrower token does not open the page link of the wider one, which knows its total."""
    wide, narrow = (hospital.caller(f"user/Observation.{verbs}", "Doctor", user="d") for verbs in ("cruds", "rs"))
    page = content(await hospital.ask(wide, "GET", "Observation?_count=1&_total=accurate"))
    link = next(each["url"] for each in page["link"] if each["relation"] == "next")
    assert await status(hospital, narrow, "GET", link) in (400, 403, 404)
    again = hospital.caller("user/Observation.cruds", "Doctor", user="d")
    assert await status(hospital, again, "GET", link) == 200


async def test_moving_a_resource_out_and_in_needs_both_ends(hospital: Hospital) -> None:
    """PUT, PATCH, conditional PUT and batch entries judge old and new content for a role with a filter."""
    tech = hospital.caller("user/*.cruds", "Lab technician", user="t")
    out = [{"op": "replace", "path": "/category", "value": [VITAL]}]
    into = [{"op": "replace", "path": "/category", "value": [LAB]}]
    for method, url, body, kind in (
        ("PUT", "Observation/o1", observation("o1", "Patient/P1", category=[VITAL]), None),
        ("PATCH", "Observation/o1", out, JSON_PATCH),
        ("PATCH", "Observation?_id=o1", out, JSON_PATCH),
        ("PUT", "Observation?_id=o1", observation("o1", "Patient/P1", category=[VITAL]), None),
        ("PUT", "Observation/v1", observation("v1", "Patient/P1"), None),
        ("PATCH", "Observation/v1", into, JSON_PATCH),
        ("PATCH", "Observation?_id=v1", into, JSON_PATCH),
    ):
        more = {"content_type": kind} if kind else {}
        assert await status(hospital, tech, method, url, body, **more) in (403, 404), (method, url)
    for category, url in ((VITAL, "Observation/o1"), (LAB, "Observation/v1")):
        row = entry("PUT", url, observation(url[-2:], "Patient/P1", category=[category]))
        for kind in ("batch", "transaction"):
            answer = await hospital.ask(tech, "POST", "", bundle_of(kind, row))
            told = content(answer)["entry"][0]["response"]["status"][:3] if kind == "batch" else str(answer.status)
            assert told in ("403", "404")
    # A conditional PUT by a criterion that matches nothing visible would create, under the id in the body.
    foreign = observation("v1", "Patient/P1")
    assert await status(hospital, tech, "PUT", "Observation?_id=v1&status=final", foreign) in (403, 404)
    assert b"vital-signs" in (await hospital.ask(hospital.admin, "GET", "Observation/v1")).body
    assert await status(hospital, tech, "PUT", "Observation/o1", observation("o1", "Patient/P1", "z")) == 200
    assert await status(hospital, tech, "PUT", "Observation?_id=o1", observation("o1", "Patient/P1", "y")) == 200


async def test_packages_are_for_callers_without_limits(hospital: Hospital) -> None:
    """$install, $installed and $uninstall: 403 for apps and roles, also in a batch; nothing is written."""
    row = {"name": "npmContent", "valueBase64Binary": b64encode(guide()).decode()}
    sent = {"resourceType": "Parameters", "parameter": [row]}
    gone = "ImplementationGuide/$uninstall?name=example.guide"
    for caller in (hospital.app(), hospital.doctor, hospital.nurse, hospital.patient()):
        assert await status(hospital, caller, "POST", "ImplementationGuide/$install", sent) == 403
        assert await status(hospital, caller, "GET", "ImplementationGuide/$installed") == 403
        assert await status(hospital, caller, "POST", gone) == 403
        batch = bundle_of("batch", entry("POST", "ImplementationGuide/$install", sent))
        told = content(await hospital.ask(caller, "POST", "", batch))
        assert told["entry"][0]["response"]["status"][:3] == "403"
    assert await status(hospital, None, "POST", "ImplementationGuide/$install", sent) == 401
    assert await hospital.ids(hospital.admin, "StructureDefinition?_count=10") == set()
    assert await status(hospital, hospital.admin, "POST", "ImplementationGuide/$install", sent) == 200
    assert await hospital.ids(hospital.admin, "StructureDefinition") == {"StructureDefinition/named"}
    assert await status(hospital, hospital.admin, "POST", gone) == 200
