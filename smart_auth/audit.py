"""AuditEvents by the IHE profiles of Basic Audit Log Patterns (BALP 1.1): who did what to which resource, when. Pure.

https://profiles.ihe.net/ITI/BALP/. What was refused is recorded with an outcome other than 0 and without the target.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Resource = dict[str, Any]

PROFILE = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
REST = {
    "system": "http://terminology.hl7.org/CodeSystem/audit-event-type",
    "code": "rest",
    "display": "RESTful Operation",
}
INTERACTION = "http://hl7.org/fhir/restful-interaction"
DCM = "http://dicom.nema.org/resources/ontology/DCM"
ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
OBJECT_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
REQUEST_ID = {"system": "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType", "code": "XrequestId"}

# On events that name more than one patient, so that no patient is shown the others.
SEVERAL = {"system": "urn:fhir-server:audit", "code": "several-patients"}


@dataclass(frozen=True, slots=True)
class Pattern:
    """How BALP records a kind of interaction: profile, action, the roles of client and server, the user's part."""

    profile: str
    action: str
    client: tuple[str, str, str]
    server: tuple[str, str, str]
    user: str


SOURCE = (DCM, "110153", "Source Role ID")
DESTINATION = (DCM, "110152", "Destination Role ID")
APPLICATION = (DCM, "110150", "Application")
CUSTODIAN = ("http://terminology.hl7.org/CodeSystem/provenance-participant-type", "custodian", "Custodian")

READ = Pattern("Read", "R", DESTINATION, SOURCE, "IRCP")
QUERY = Pattern("Query", "E", SOURCE, DESTINATION, "IRCP")
CREATE = Pattern("Create", "C", SOURCE, DESTINATION, "AUT")
UPDATE = Pattern("Update", "U", SOURCE, DESTINATION, "AUT")
DELETE = Pattern("Delete", "D", APPLICATION, CUSTODIAN, "AUT")
OTHER = Pattern("", "E", SOURCE, DESTINATION, "IRCP")

PATTERNS: Mapping[str, Pattern] = {
    "read": READ,
    "vread": READ,
    "search-type": QUERY,
    "search-system": QUERY,
    "create": CREATE,
    "update": UPDATE,
    "patch": UPDATE,
    "delete": DELETE,
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is to tell of one interaction; `patients` are the ids whose data was touched."""

    interaction: str
    status: int
    type: str = ""
    id: str = ""
    version: str = ""
    patients: tuple[str, ...] = ()
    query: str = ""
    operation: str = ""
    client: str = "anonymous"
    user: str | None = None
    fhir_user: str | None = None
    name: str = ""
    roles: tuple[str, ...] = ()
    purpose: str = ""
    peer: str = ""
    request: str = ""


def event(facts: Facts, *, id: str, at: str, server: str) -> Resource:
    """The AuditEvent of one interaction; `at` is a FHIR instant, `server` the base address."""
    pattern = _pattern(facts)
    fine = facts.status < 400
    return {
        **_head(id, at, _profile(pattern, facts) if fine else None, [SEVERAL] if len(facts.patients) > 1 else []),
        "type": REST,
        "subtype": [{"system": INTERACTION, "code": _interaction(facts)}],
        "action": pattern.action,
        "recorded": at,
        "outcome": _outcome(facts.status),
        **_described(facts),
        **({"purposeOfEvent": [_concept(REASON, facts.purpose)]} if facts.purpose else {}),
        "agent": _agents(facts, pattern, server),
        "source": {"observer": {"display": server}, "site": server},
        "entity": _entities(facts, pattern) if fine else _refused(facts),
    }


def _pattern(facts: Facts) -> Pattern:
    """BALP's Delete is for what was deleted: a delete that found nothing names nothing."""
    return OTHER if _found_nothing(facts) else PATTERNS.get(facts.interaction, OTHER)


def _found_nothing(facts: Facts) -> bool:
    return facts.interaction == "delete" and facts.status < 400 and not facts.id


def _described(facts: Facts) -> Resource:
    if facts.status >= 400:
        return {"outcomeDesc": f"HTTP {facts.status}"}
    return {"outcomeDesc": "Nothing was deleted."} if _found_nothing(facts) else {}


def _head(id: str, at: str, profile: str | None, tags: list[Resource] | None = None) -> Resource:
    meta: Resource = {"versionId": "1", "lastUpdated": at}
    if profile:
        meta["profile"] = [profile]
    if tags:
        meta["tag"] = tags
    return {"resourceType": "AuditEvent", "id": id, "meta": meta}


def _profile(pattern: Pattern, facts: Facts) -> str | None:
    if not pattern.profile:
        return None
    return f"{PROFILE}{'Patient' if len(facts.patients) == 1 else ''}{pattern.profile}"


def _interaction(facts: Facts) -> str:
    return "operation" if facts.operation else facts.interaction


def _outcome(status: int) -> str:
    """http://hl7.org/fhir/R4/valueset-audit-event-outcome.html: success, minor failure, serious failure."""
    return "0" if status < 400 else "4" if status < 500 else "8"


def _coding(system: str, code: str, display: str) -> Resource:
    return {"system": system, "code": code, "display": display}


def _concept(system: str, code: str) -> Resource:
    return {"coding": [{"system": system, "code": code}]}


def _agents(facts: Facts, pattern: Pattern, server: str) -> list[Resource]:
    client = {
        "type": {"coding": [_coding(*pattern.client)]},
        "who": {"identifier": {"value": facts.client}},
        "requestor": facts.user is None,
        "network": {"address": facts.peer or "unknown", "type": "2"},
    }
    here = {
        "type": {"coding": [_coding(*pattern.server)]},
        "who": {"identifier": {"value": server}},
        "requestor": False,
        "network": {"address": server, "type": "5"},
    }
    return [client, here, *([_person(facts, pattern.user)] if facts.user is not None else [])]


def _person(facts: Facts, part: str) -> Resource:
    who: Resource = {"identifier": {"value": facts.user}}
    if facts.fhir_user:
        who["reference"] = facts.fhir_user
    agent: Resource = {"type": _concept(PARTICIPATION, part), "who": who, "requestor": True}
    if facts.name:
        agent["name"] = facts.name
    if facts.roles:
        agent["role"] = [{"text": role} for role in facts.roles]
    if facts.purpose:
        agent["purposeOfUse"] = [_concept(REASON, facts.purpose)]
    return agent


def _entities(facts: Facts, pattern: Pattern) -> list[Resource]:
    found = [_patient(identity) for identity in facts.patients]
    if pattern is QUERY:
        found.append(_query(facts))
    elif facts.type:
        found.append(_data(facts))
    if facts.operation:
        found.append({"type": _entity("2", "System Object"), "name": f"${facts.operation}"})
    return [*found, *_request(facts)]


def _refused(facts: Facts) -> list[Resource]:
    """Only the kind of data: what was refused is not told again."""
    told = [{"type": _entity("2", "System Object"), "description": facts.type}] if facts.type else []
    return [*told, *_request(facts)]


def _entity(code: str, display: str) -> Resource:
    return _coding(ENTITY_TYPE, code, display)


def _patient(identity: str) -> Resource:
    return {
        "what": {"reference": f"Patient/{identity}"},
        "type": _entity("1", "Person"),
        "role": _coding(OBJECT_ROLE, "1", "Patient"),
    }


def _data(facts: Facts) -> Resource:
    name = f"{facts.type}/{facts.id}" if facts.id else facts.type
    what = (
        {"reference": f"{name}/_history/{facts.version}" if facts.version else name} if facts.id else {"display": name}
    )
    return {"what": what, "type": _entity("2", "System Object"), "role": _coding(OBJECT_ROLE, "4", "Domain Resource")}


def _query(facts: Facts) -> Resource:
    return {
        "type": _entity("2", "System Object"),
        "role": _coding(OBJECT_ROLE, "24", "Query"),
        "query": base64.b64encode((facts.query or "?").encode()).decode(),
    }


def _request(facts: Facts) -> list[Resource]:
    return [{"what": {"identifier": {"value": facts.request}}, "type": REQUEST_ID}] if facts.request else []


# Logins, tokens, emergencies: kind -> type, subtype, action, serious outcome when it is no success.
LOGIN = (DCM, "110114", "User Authentication")
LOG_USED = (DCM, "110101", "Audit Log Used")
ALERT = (DCM, "110113", "Security Alert")
SECURITY: Mapping[str, tuple[tuple[str, str, str], str, str]] = {
    "login": (LOGIN, "110122", "0"),
    "logout": (LOGIN, "110123", "0"),
    "authorize": (LOGIN, "110142", "0"),
    "authorize-denied": (LOGIN, "110142", "4"),
    "token": (LOGIN, "110142", "0"),
    "token-refused": (LOGIN, "110142", "4"),
    "token-unknown": (LOGIN, "110142", "4"),
    "token-revoked": (LOGIN, "110143", "0"),
    "grant-revoked": (LOGIN, "110143", "0"),
    "credential": (ALERT, "110137", "0"),
    "token-replay": (ALERT, "110127", "8"),
    "code-replay": (ALERT, "110127", "8"),
    "break-glass": (ALERT, "110127", "0"),
    "client-registered": (ALERT, "110131", "0"),
    "launch": (LOGIN, "110120", "0"),
    "tenant-created": (ALERT, "110131", "0"),
    "tenant-exported": (ALERT, "110131", "0"),
    "tenant-deleted": (ALERT, "110131", "0"),
    "key-rotated": (ALERT, "110131", "0"),
    "role-changed": (ALERT, "110131", "0"),
    "audit-exported": (LOG_USED, "110101", "0"),
    "audit-removed": (LOG_USED, "110101", "0"),
}
OUTCOMES = {"success": "0", "refused": "4", "throttled": "4"}


def security_event(kind: str, details: Mapping[str, Any], *, id: str, at: str, server: str) -> Resource:
    """The AuditEvent of a login, a token, a changed credential or an emergency."""
    about, code, usual = SECURITY[kind]
    outcome = OUTCOMES.get(str(details.get("outcome")), usual)
    made = {
        **_head(id, at, None),
        "type": _coding(*about),
        "subtype": [{"system": DCM, "code": code, "display": kind}],
        "action": "E",
        "recorded": at,
        "outcome": outcome,
        **({"outcomeDesc": str(details.get("error") or details.get("outcome") or kind)} if outcome != "0" else {}),
        "agent": _security_agents(details),
        "source": {"observer": {"display": server}, "site": server},
    }
    if kind == "break-glass":
        made["purposeOfEvent"] = [_concept(REASON, "BTG")]
        made["entity"] = [{"type": _entity("2", "System Object"), "description": str(details.get("reason", ""))}]
    if kind.startswith(("audit-", "key-", "role-")):
        made["entity"] = [{"type": _entity("2", "System Object"), "description": str(details.get("reason", ""))}]
    if details.get("tenant"):
        made["entity"] = [{"type": _entity("2", "System Object"), "description": f"tenant {details['tenant']}"}]
    return made


def _security_agents(details: Mapping[str, Any]) -> list[Resource]:
    agents: list[Resource] = []
    if details.get("client"):
        agents.append(
            {"type": {"coding": [_coding(*APPLICATION)]}, "who": _named(details["client"]), "requestor": True}
        )
    if details.get("user") is not None:
        agents.append({"who": _named(details["user"]), "requestor": not agents})
    if details.get("address"):
        agents.append(
            {"who": _named("unknown"), "requestor": not agents, "network": {"address": details["address"], "type": "2"}}
        )
    return agents or [{"who": _named("unknown"), "requestor": True}]


def _named(value: Any) -> Resource:
    return {"identifier": {"value": str(value) or "unknown"}}
