"""The one gate: what a caller may do becomes clauses of the query and checks on the instance (DESIGN.md §4).

While the server runs open (`--auth none`, loopback only) everybody may do everything.
"""

from __future__ import annotations

from collections.abc import Callable

from fhir_server.context import Context, Request, Resource
from fhir_server.store import Stored
from search.clauses import Clause


async def admit(request: Request, context: Context, interaction: str) -> None:
    """Let the interaction begin; FhirError 401 or 403 otherwise."""


def clause_of(request: Request, context: Context) -> Callable[[str], Clause] | None:
    """For each type the clause that is added to every query of this caller before it is compiled; None adds nothing."""
    return None


async def sees(request: Request, context: Context, stored: Stored) -> bool:
    """Whether this version exists for the caller; what does not is answered like what was never there."""
    return True


async def may_store(request: Request, context: Context, resource: Resource) -> None:
    """Let the caller write this content; FhirError 403 otherwise."""
