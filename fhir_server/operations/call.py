"""What an operation is and what a call of it carries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias

from fhir_server.answers.respond import Response
from fhir_server.context import Context, Request
from fhir_server.store import Stored
from profiles.json import parse
from profiles.model import ancestors, definition
from profiles.outcome import Issue

Parameters: TypeAlias = dict[str, list[Any]]


@dataclass(frozen=True, slots=True)
class Call:
    """One call: the values of each parameter, and the resource (and version) that it was called on.

    `faults` are those of the text that was sent, for an operation that examines it. `opened` are the stored versions
    that were read for it, whose patients the audit trail names besides those of the answer.
    """

    request: Request
    parameters: Parameters
    type: str
    id: str
    version: str = ""
    sent: dict[str, Any] | None = None
    faults: tuple[Issue, ...] = ()
    opened: list[Stored] = field(default_factory=list)

    def one(self, name: str) -> Any:
        """The first value of a parameter, None without one."""
        values = self.parameters.get(name)
        return values[0] if values else None

    def all(self, name: str) -> list[Any]:
        """Every value of a parameter."""
        return self.parameters.get(name, [])


Run: TypeAlias = Callable[[Call, Context], Awaitable[Response]]


LEVELS = ("system", "type", "instance")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: the id of the OperationDefinition, and what carries it out.

    `levels` are those of the definition that are offered. An open one reads the query and the posted body itself:
    terminology takes parameters that later releases define. The body of a raw one need not be a resource. One
    that examines is told what is wrong with the text of the body, where others refuse it. `more` are parameters
    beyond those of the definition.
    """

    definition: str
    run: Run
    open: bool = False
    levels: tuple[str, ...] = LEVELS
    raw: bool = False
    examines: bool = False
    more: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation as its OperationDefinition describes it; `inputs` are the definitions of its parameters."""

    name: str
    url: str
    types: tuple[str, ...]
    system: bool
    type: bool
    instance: bool
    affects_state: bool
    inputs: tuple[dict[str, Any], ...]
    run: Run
    open: bool = False
    raw: bool = False
    examines: bool = False

    def is_for(self, type: str) -> bool:
        """Whether resources of the type have it: `Resource` stands for all of them."""
        return any(name in ancestors(type) for name in self.types)

    def places(self) -> list[str]:
        """Where it can be called, such as `/Patient/[id]/$everything`."""
        found = [f"/${self.name}"] if self.system else []
        for name in self.types:
            shown = "[type]" if name == "Resource" else name
            found += [f"/{shown}/${self.name}"] if self.type else []
            found += [f"/{shown}/[id]/${self.name}"] if self.instance else []
        return found


# Operations that change what is stored; R4's definitions do not say so for most of them.
STATEFUL = frozenset(
    ("meta-add", "meta-delete", "expunge", "reindex", "closure", "submit", "submit-data", "process-message")
)


def operation_of(row: Row) -> Operation:
    """The operation that a row offers."""
    found = definition_of(row.definition)
    return Operation(
        name=found["code"],
        url=found["url"],
        types=tuple(found.get("resource", ())),
        system=found["system"] and "system" in row.levels,
        type=found["type"] and "type" in row.levels,
        instance=found["instance"] and "instance" in row.levels,
        affects_state=bool(found.get("affectsState")) or found["code"] in STATEFUL,
        inputs=(*(parameter for parameter in found.get("parameter", ()) if parameter["use"] == "in"), *row.more),
        run=row.run,
        open=row.open or row.raw,
        raw=row.raw,
        examines=row.examines,
    )


@cache
def definition_of(id: str) -> dict[str, Any]:
    """An OperationDefinition: the official one, or this server's own beside this file."""
    official = definition("OperationDefinition", id)
    if official is not None:
        return official
    own: dict[str, Any] = parse((files(__package__) / "definitions" / f"{id}.json").read_bytes())
    return own
