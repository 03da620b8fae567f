"""Whether an interaction may begin: who asks, and whether type and verb are granted at all (401, 403)."""

from __future__ import annotations

from fhir_server.access.gate import LOGIN, Caller
from fhir_server.access.moving import AUDIT_EVENT, BEHIND, PATIENCE, looks_at_trail
from fhir_server.context import Context, Request
from profiles.model import RESOURCE_TYPES
from profiles.outcome import FhirError, Issue
from smart_auth.access import VERB

SCOPE = {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}
# What depends on the first part of the path alone; most requests are these, and looked at once.
PLAIN = frozenset({"read", "create", "update"})
# What has to be granted besides the verb of an interaction: whether a patch succeeds tells what it found.
LOOKS_FIRST = {"patch": "i"}
# Operation -> the verb it needs on the type (or on the type named here). What has no row is for callers without limits.
OPERATIONS: dict[str, tuple[str, str | None]] = {
    "validate": ("", None),
    "convert": ("", None),
    "fhirpath": ("", None),
    "graphql": ("", None),
    "graph": ("r", None),
    "summary": ("r", "Patient"),
    "diff": ("r", None),
    "snapshot": ("r", "StructureDefinition"),
    "stats": ("s", "Observation"),
    "everything": ("r", None),
    "lastn": ("s", "Observation"),
    "document": ("r", "Composition"),
    "meta": ("r", None),
    "meta-add": ("u", None),
    "meta-delete": ("u", None),
    "lookup": ("r", "CodeSystem"),
    "validate-code": ("r", None),
    "subsumes": ("r", "CodeSystem"),
    "expand": ("r", "ValueSet"),
    "find-matches": ("r", "CodeSystem"),
    "batch-validate-code": ("r", "ValueSet"),
    "translate": ("r", "ConceptMap"),
    "closure": ("r", "CodeSystem"),
    "versions": ("", None),
}


def caller_of(request: Request, context: Context) -> Caller | None:
    """The caller, None on an open server; FhirError 401 where there has to be one."""
    if request.principal is not None:
        caller: Caller = request.principal
        return caller
    if context.config.auth == "none":
        return None
    raise FhirError("login", "Log in: a bearer token is needed.", headers=LOGIN)


def refused(text: str) -> FhirError:
    """The error of a type, a verb or a content that is not granted."""
    return FhirError("forbidden", text, headers=SCOPE)


async def admit(request: Request, context: Context, interaction: str) -> None:
    """Let the interaction begin; FhirError 401 or 403 otherwise."""
    if interaction == "capabilities":
        return
    caller = caller_of(request, context)
    if caller is None:
        return
    if not request.query and (interaction, *request.parts[:1]) in caller.admitted:
        return
    if interaction == "operation":
        _admit_operation(request, caller)
    elif interaction in ("transaction", "batch"):
        if not caller.principal.scopes:
            raise refused("The token has no scope for resources.")
    else:
        for verb in (VERB[interaction], *LOOKS_FIRST.get(interaction, "")):
            _admit_verb(verb, kind_of(request), caller)
    if context.trail is not None and looks_at_trail(request, interaction):
        await _catch_up(request, context, caller)
    elif interaction in PLAIN:
        caller.admitted.add((interaction, request.parts[0]))


async def _catch_up(request: Request, context: Context, caller: Caller) -> None:
    """Nobody sees a trail that is behind what was answered; where it is too far behind, a search says so."""
    if caller.gate.grants(caller, AUDIT_EVENT, "i") and not await context.trail.move(PATIENCE):
        request.notes = (Issue("warning", "incomplete", BEHIND),)


def kind_of(request: Request) -> str | None:
    """The type an interaction is about; None for all of them."""
    parts = [part for part in request.parts if part not in ("_search", "_history")]
    name = parts[2] if len(parts) == 3 and parts[2] not in ("", "*") and parts[2] in RESOURCE_TYPES else None
    return name or (parts[0] if parts and not (len(parts) == 3 and parts[2] == "*") else None)


def _admit_verb(verb: str, kind: str | None, caller: Caller) -> None:
    if kind is None:
        if not any(verb in scope.verbs for scope in caller.principal.scopes):
            raise refused("This is not granted.")
    elif not caller.gate.grants(caller, kind, verb):
        raise refused(f"This is not granted for {kind}.")


def _admit_operation(request: Request, caller: Caller) -> None:
    name = request.parts[-1].removeprefix("$")
    verb, on = OPERATIONS.get(name, (None, None))
    kind = on or (request.parts[0] if request.parts[0] in RESOURCE_TYPES else None)
    if verb is None:
        if not unlimited(caller):
            raise refused(f"${name} is not granted.")
    elif verb:
        _admit_verb(verb, kind, caller)
    elif not caller.principal.scopes or (kind and not any(caller.gate.grants(caller, kind, each) for each in "cru")):
        raise refused(f"${name} is not granted.")


def unlimited(caller: Caller) -> bool:
    """Whether role and scope grant every type and verb without any condition; a patient's consent is none of these."""
    return all(caller.gate.is_free(caller, "*", verb) for verb in "cruds")
