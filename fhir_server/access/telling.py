"""What the journal keeps of an interaction: little work before the answer, the rest when the event is made.

A line of the journal is JSON. What an interaction was is a row in it, with the parts of the path and the pairs of the
query as they came; who asked is text that is made once for a caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from urllib.parse import urlencode

import msgspec

from fhir_server.answers.respond import EPOCH, Response, instant_text
from fhir_server.context import Request
from fhir_server.store import Stored
from profiles.model import RESOURCE_TYPES
from profiles.outcome import FhirError
from smart_auth.access import Principal
from smart_auth.audit import Facts

# Patients of one line and so of one event, of 15 kB then; more of them go on in the next.
MOST_PATIENTS = 50
NOBODY = msgspec.Raw(b"{}")
# What an interaction turned out to be, by its name and status: `If-None-Exist` that finds its match makes nothing.
BECAME = {("create", 200): "read"}

# Interaction, status, path, query, the resource (type, id, version), patients, address, request, who.
Row: TypeAlias = tuple[
    str,
    int,
    Sequence[str],
    Sequence[tuple[str, str]],
    tuple[str, str, int] | None,
    Sequence[str],
    str,
    str,
    msgspec.Raw,
]


def rows_of(request: Request, interaction: str, answer: Response | Exception, who: msgspec.Raw) -> list[Row]:
    """What is to be told of an interaction, a row for each event; of a failure neither id nor query."""
    if not isinstance(answer, Response) or answer.status >= 400:
        status = answer.status if isinstance(answer, Response | FhirError) else 500
        return [(interaction, status, _kept(request.parts), (), None, (), request.peer, request.id, who)]
    about = _about(answer)
    done = BECAME.get((interaction, answer.status), interaction)
    parts = request.parts if done != "delete" or answer.each else _kept(request.parts)
    asked = request.query if "search" in done else ()
    return [
        (done, answer.status, parts, asked, what, patients, request.peer, request.id, who) for what, patients in about
    ]


def _about(answer: Response) -> list[tuple[tuple[str, str, int] | None, Sequence[str]]]:
    """The resource and the patients of each event."""
    if answer.stored is not None:
        return [_one(answer.stored)]
    if answer.each:
        return [_one(stored) for stored in answer.each]
    patients = _patients(answer.compartments) if answer.compartments else []
    starts = range(0, len(patients), MOST_PATIENTS)
    return [(None, patients[start : start + MOST_PATIENTS]) for start in starts] or [(None, ())]


def _one(stored: Stored) -> tuple[tuple[str, str, int], Sequence[str]]:
    whose = stored.compartment
    return (stored.type, stored.id, stored.version), (whose[8:],) if whose.startswith("Patient/") else ()


def _kept(parts: Sequence[str]) -> list[str]:
    """The kind of data and the operation."""
    kind = next((part for part in reversed(parts) if part in RESOURCE_TYPES), "")
    operation = parts[-1] if parts and parts[-1].startswith("$") else ""
    return [part for part in (kind, operation) if part]


def _patients(named: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([name[8:] for name in named if name.startswith("Patient/")]))


def who_of(principal: Principal, now: datetime) -> msgspec.Raw:
    """Who asks, as it stands in each line."""
    told = {
        "client": principal.client,
        "user": principal.user,
        "fhir_user": principal.fhir_user,
        "name": principal.name if principal.user else "",
        "roles": [policy.name for policy in principal.policies],
        "purpose": "BTG" if principal.breaks_glass(now) else principal.purpose,
    }
    return msgspec.Raw(msgspec.json.encode(told))


def opened(line: bytes) -> tuple[str, str, str, Any]:
    """A line of the journal: the id of the event, its instant, the kind, and the row or the details."""
    identity, at, kind, told = msgspec.json.decode(line)
    return identity, at if isinstance(at, str) else instant_text(EPOCH + timedelta(milliseconds=at)), kind, told


def facts_of(row: Any) -> Facts:
    """The facts of an event from the row of a line, or from a line that holds them as they are."""
    if isinstance(row, dict):
        return msgspec.convert(row, Facts)
    interaction, status, parts, query, what, patients, peer, request, who = row
    kind = what[0] if what else next((part for part in reversed(parts) if part in RESOURCE_TYPES), "")
    fine = status < 400
    named = fine and len(parts) > 1 and parts[0] == kind and parts[1][:1] not in "_$"
    return Facts(
        interaction=interaction,
        status=status,
        type=kind,
        id=what[1] if what else parts[1] if named else "",
        version=str(what[2]) if what else "",
        patients=tuple(patients),
        query="/".join(parts) + "?" + urlencode(list(map(tuple, query))) if fine and "search" in interaction else "",
        operation=parts[-1].removeprefix("$") if parts and parts[-1].startswith("$") else "",
        peer=peer,
        request=request,
        **who | ({"roles": tuple(who["roles"])} if who else {}),
    )
