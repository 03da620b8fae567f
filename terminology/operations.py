"""The terminology operations as a table: what the server's operation files call (http://hl7.org/fhir/R4/terminology-service.html)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from terminology.concepts import Json
from terminology.expand import Clock, expand
from terminology.findmatches import find_matches
from terminology.library import Library
from terminology.lookup import lookup
from terminology.request import Parameters
from terminology.shape import check_shape
from terminology.subsumption import subsumes
from terminology.translate import translate
from terminology.validate import validate_batch, validate_code_system, validate_value_set


@dataclass(frozen=True, slots=True)
class Asking:
    """One request: its parameters, its Accept-Language, and the resource of an instance that it was sent to."""

    library: Library
    parameters: Parameters
    clock: Clock
    header: str | None = None
    instance: Json | None = None


Operation = Callable[[Asking], Json]

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("CodeSystem", "lookup"): lambda q: lookup(q.library, q.parameters, q.header, q.instance),
    ("CodeSystem", "subsumes"): lambda q: subsumes(q.library, q.parameters, q.instance),
    ("CodeSystem", "find-matches"): lambda q: find_matches(q.library, q.parameters, q.instance),
    ("CodeSystem", "validate-code"): lambda q: validate_code_system(q.library, q.parameters, q.header, q.instance),
    ("ValueSet", "expand"): lambda q: expand(q.library, q.parameters, q.clock, q.header, q.instance),
    ("ValueSet", "validate-code"): lambda q: validate_value_set(q.library, q.parameters, q.header, q.instance),
    ("ValueSet", "batch-validate-code"): lambda q: validate_batch(q.library, q.parameters, q.header),
    ("ConceptMap", "translate"): lambda q: translate(q.library, q.parameters, q.instance),
}


# Parameters that are definitions themselves.
_DEFINITIONS = ("valueSet", "codeSystem", "conceptMap")


def run(kind: str, name: str, asking: Asking) -> Json:
    """The answer of an operation; resources sent along (`tx-resource`) come before all others."""
    along = asking.parameters.resources("tx-resource")
    for resource in [*along, *asking.parameters.resources(*_DEFINITIONS)]:
        check_shape(resource)
    question = Asking(asking.library.under(along), asking.parameters, asking.clock, asking.header, asking.instance)
    return OPERATIONS[kind, name](question)
