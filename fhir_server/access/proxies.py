"""A Binary is as secret as the resource it names: `securityContext` (http://hl7.org/fhir/R4/binary.html)."""

from __future__ import annotations

from typing import Any

import msgspec

from fhir_server.access.gate import Caller
from profiles.model import RESOURCE_TYPES
from search.clauses import ALWAYS, Chain, Clause, some
from search.params import SECURITY_CONTEXT, TYPE_CODES
from search.types.reference import local
from smart_auth.formulas import where

KIND = "Binary"
NAMED = tuple(sorted(RESOURCE_TYPES - {KIND}))


class _Binary(msgspec.Struct):
    """What counts of a Binary; its data is passed over."""

    security_context: Any = msgspec.field(default=None, name="securityContext")


def named_by(body: bytes) -> Any:
    """The securityContext of a stored Binary; None where it has none."""
    return msgspec.json.decode(body, type=_Binary).security_context


def target_of(context: Any, base: str) -> str | None:
    """The resource of this server that a securityContext names; None for what is elsewhere, or another Binary."""
    place = local(context.get("reference") or "", base) if isinstance(context, dict) else None
    return f"{place[0]}/{place[1]}" if place is not None and place[0] in TYPE_CODES and place[0] != KIND else None


def is_free(caller: Caller) -> bool:
    """Whether everything of every type is there for the caller, so that no context matters."""
    if caller.free is None:
        caller.free = all(caller.gate.sight(caller, kind, "i").all for kind in NAMED)
    return caller.free


def clause(caller: Caller) -> Clause:
    """A Binary without a context, or with one that the caller may see; the search adds what that is for each type."""
    if is_free(caller):
        return ALWAYS
    parameter = caller.gate.registry.lookup(KIND, SECURITY_CONTEXT.code)
    assert parameter is not None
    bare = caller.gate.compiled(where((f"{SECURITY_CONTEXT.code}:missing", "true")), KIND)
    return some([bare, *(Chain(parameter.keys, kind, ALWAYS, "followed") for kind in NAMED)])
