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
from profiles.model import RESOURCE_TYPES
from profiles.outcome import FhirError
from smart_auth.access import Principal
from smart_auth.audit import Facts

MOST_PATIENTS = 50
NOBODY = msgspec.Raw(b"{}")

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


def row_of(request: Request, interaction: str, answer: Response | Exception, who: msgspec.Raw) -> Row:
    """What is to be told of an interaction; of a failure neither id nor query."""
    if isinstance(answer, Response) and answer.status < 400:
        stored = answer.stored
        what = (stored.type, stored.id, stored.version) if stored is not None else None
        asked = request.query if "search" in interaction else ()
        named = (stored.compartment,) if stored is not None else answer.compartments
        patients = _patients(named) if named else ()
        return interaction, answer.status, request.parts, asked, what, patients, request.peer, request.id, who
    status = answer.status if isinstance(answer, Response | FhirError) else 500
    return interaction, status, _kept(request.parts), (), None, (), request.peer, request.id, who


def _kept(parts: Sequence[str]) -> list[str]:
    """The kind of data and the operation."""
    kind = next((part for part in reversed(parts) if part in RESOURCE_TYPES), "")
    operation = parts[-1] if parts and parts[-1].startswith("$") else ""
    return [part for part in (kind, operation) if part]


def _patients(named: Sequence[str]) -> list[str]:
    found = dict.fromkeys([name[8:] for name in named if name.startswith("Patient/")])
    return list(found)[:MOST_PATIENTS]


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
