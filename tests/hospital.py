"""A small hospital behind the gate: patients P1 and P2, what is known of them, and callers of all kinds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl

from fhir_server.access.auditing import Trail
from fhir_server.access.gate import Caller, Gate
from fhir_server.answers.respond import Response
from fhir_server.context import Context, Request
from fhir_server.routes import handle
from fhir_server.store import Store
from profiles.json import encode, parse
from smart_auth import policies, scopes
from smart_auth.access import Principal
from tests.shell import BASE, context_on
from tests.smart_world import make_world

LAB = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]}
VITAL = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}
RESTRICTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}


def reference(name: str) -> dict[str, str]:
    return {"reference": name}


def observation(identity: str, patient: str, code: str = "a", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": identity,
        "status": "final",
        "category": [LAB],
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": reference(patient),
        **more,
    }


def condition(identity: str, patient: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Condition", "id": identity, "subject": reference(patient), **more}


def encounter(identity: str, patient: str) -> dict[str, Any]:
    fields = {"status": "finished", "class": {"code": "AMB"}, "subject": reference(patient)}
    return {"resourceType": "Encounter", "id": identity, **fields}


def denial(identity: str, patient: str, **provision: Any) -> dict[str, Any]:
    """A Consent by which a patient denies what the provision says; all of it where that says nothing."""
    return {
        "resourceType": "Consent",
        "id": identity,
        "status": "active",
        "scope": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]
        },
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": reference(f"Patient/{patient}"),
        "policyRule": {"coding": [{"code": "OPTIN"}]},
        "provision": {"type": "deny", **provision},
    }


def letter(*about: str) -> dict[str, Any]:
    """A Composition on P1 with these in its one section."""
    return {
        "resourceType": "Composition",
        "id": "doc",
        "status": "final",
        "type": {"text": "letter"},
        "subject": reference("Patient/P1"),
        "date": "2026-05-01",
        "author": [reference("Practitioner/D1")],
        "title": "Letter",
        "section": [{"entry": [reference(name) for name in about]}],
    }


RESOURCES: list[dict[str, Any]] = [
    {"resourceType": "Organization", "id": "org", "name": "Clinic"},
    {"resourceType": "Practitioner", "id": "D1", "name": [{"family": "Dora"}]},
    {
        "resourceType": "Patient",
        "id": "P1",
        "name": [{"family": "Lovelace", "given": ["Ada"]}],
        "birthDate": "1970-01-01",
        "telecom": [{"system": "phone", "value": "111"}],
        "managingOrganization": reference("Organization/org"),
    },
    {
        "resourceType": "Patient",
        "id": "P2",
        "name": [{"family": "Bell", "given": ["Bob"]}],
        "birthDate": "1980-01-01",
        "telecom": [{"system": "phone", "value": "222"}],
        "managingOrganization": reference("Organization/org"),
        "generalPractitioner": [reference("Practitioner/D1")],
    },
    observation("o1", "Patient/P1", performer=[reference("Practitioner/D1")]),
    observation("o2", "Patient/P2", "b", performer=[reference("Practitioner/D1")]),
    observation("v1", "Patient/P1", category=[VITAL]),
    observation("mix", "Patient/P1", hasMember=[reference("Observation/o2")], focus=[reference("Patient/P2")]),
    observation("r1", "Patient/P1", "c", meta={"security": [RESTRICTED]}),
    condition("c1", "Patient/P1"),
    condition("c2", "Patient/P2"),
    encounter("e1", "Patient/P1"),
    encounter("e2", "Patient/P2"),
    {
        "resourceType": "Group",
        "id": "g",
        "type": "person",
        "actual": True,
        "member": [{"entity": reference("Patient/P1")}],
    },
    {"resourceType": "Device", "id": "dev2", "patient": reference("Patient/P2")},
    {
        "resourceType": "List",
        "id": "l2",
        "status": "current",
        "mode": "working",
        "subject": reference("Patient/P2"),
        "entry": [{"item": reference("Observation/o1")}],
    },
]


@dataclass
class Hospital:
    """A server behind the gate, and callers to ask it with."""

    context: Context
    gate: Gate

    def caller(self, scope: str, *roles: str, **more: Any) -> Caller:
        parsed = scopes.parse(scope)
        assert parsed is not None
        held = tuple(policies.policy(policies.default_policies()[role]) for role in roles)
        principal = Principal("default", more.pop("client", "app"), parsed.clinical, held, **more)
        return self.gate.of_principal(principal)

    @property
    def admin(self) -> Caller:
        return self.caller("user/*.cruds", "Admin", user="root")

    @property
    def doctor(self) -> Caller:
        return self.caller(
            "user/*.cruds", "Doctor", user="dora", fhir_user="Practitioner/D1", actors=frozenset({"Practitioner/D1"})
        )

    @property
    def nurse(self) -> Caller:
        return self.caller(
            "user/*.cruds", "Nurse", user="nora", fhir_user="Practitioner/N1", actors=frozenset({"Practitioner/N1"})
        )

    def app(self, scope: str = "patient/*.cruds", patient: str = "P1", role: str = "Admin") -> Caller:
        """An app with one patient in context, for a user of the role."""
        return self.caller(scope, role, user="u", patient=patient)

    def patient(self, scope: str = "patient/*.cruds", patient: str = "P1") -> Caller:
        """An app that a patient has allowed."""
        me = f"Patient/{patient}"
        return self.caller(
            scope, "Patient", user=patient, fhir_user=me, patients=(patient,), patient=patient, actors=frozenset({me})
        )

    async def ask(
        self, caller: Caller | None, method: str, url: str = "", resource: Any = None, **headers: str
    ) -> Response:
        path, _, query = url.removeprefix(BASE).removeprefix("/").partition("?")
        parts = tuple(path.split("/")) if path else ()
        body = b"" if resource is None else encode(resource)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = Request(
            method, parts, parse_qsl(query, keep_blank_values=True), named, body, principal=caller, id="t"
        )
        return await handle(request, self.context)

    async def ids(self, caller: Caller, url: str) -> set[str]:
        """What a search finds, as `Observation/o1`, includes too; every page of it."""
        found: set[str] = set()
        answer = await self.ask(caller, "GET", url)
        while True:
            assert answer.status == 200, (url, answer.body[:300])
            bundle: Any = parse(answer.body)
            rows = (entry["resource"] for entry in bundle.get("entry", ()))
            found |= {f"{row['resourceType']}/{row['id']}" for row in rows if row["resourceType"] != "OperationOutcome"}
            links = {link["relation"]: link["url"] for link in bundle.get("link", ())}
            if "next" not in links:
                return found
            answer = await self.ask(caller, "GET", links["next"])


async def status(hospital: Hospital, caller: Any, method: str, url: str, resource: Any = None, **headers: str) -> int:
    """The status of one request."""
    return (await hospital.ask(caller, method, url, resource, **headers)).status


async def open_hospital(store: Store, resources: list[dict[str, Any]] | None = None, **settings: Any) -> Hospital:
    """The hospital on an empty store."""
    world = await make_world(store)
    context = context_on(store, auth="smart", **settings)
    hospital = Hospital(context, Gate(world.realm, store, context.registry, BASE))
    root = hospital.admin
    for resource in RESOURCES if resources is None else resources:
        answer = await hospital.ask(root, "PUT", f"{resource['resourceType']}/{resource['id']}", resource)
        assert answer.status == 201, answer.body
    return hospital


async def open_audited(store: Store, key: bytes) -> Hospital:
    """The same with an audit trail."""
    made = await open_hospital(store)
    trail = Trail(made.context, key)
    await trail.journal.prepare()
    made.context = replace(made.context, trail=trail)
    return made


async def events(hospital: Hospital) -> list[dict[str, Any]]:
    """Every AuditEvent so far, the oldest first, straight from the store."""
    await hospital.context.trail.move()
    store: Any = hospital.context.store
    rows = await store.reads.find_documents({"_id": {"$gte": "AuditEvent/", "$lt": "AuditEvent0"}}, sort={"_id": 1})
    found: Any = [parse(row["body"]) for row in rows]
    return list(found)


async def faults(hospital: Hospital) -> list[str]:
    """What the proof of the audit trail finds wrong."""
    return [fault async for fault in hospital.context.trail.verify()]
