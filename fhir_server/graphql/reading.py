"""What resolvers read and write: every edge is a read, a search or a write of its own at the one gate."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

from fhir_server import access
from fhir_server.access.views import view, view_target, views
from fhir_server.answers.respond import Response
from fhir_server.context import Context, Pairs, Request, Resource
from fhir_server.interactions.create import create
from fhir_server.interactions.delete import delete
from fhir_server.interactions.update import update
from fhir_server.store import Stored
from fhir_server.store.find.search import Found
from profiles.fhirpath import Environment, Node, compile
from profiles.json import decode
from profiles.outcome import FhirError, Issue

WIDTH = 16  # searches of one query at work at once
MOST_VALUES = 100_000  # values of one answer: about a second of work
A_RESOURCE = 10  # values that loading a resource costs as much as
WRITES = {"POST": ("create", create), "PUT": ("update", update), "DELETE": ("delete", delete)}


@dataclass(slots=True)
class Reading:
    """One GraphQL request under way, in the name of its caller.

    `done` are the writes so far; `compartments` are those of everything told, for the audit trail; `suffixes` are what
    `@slice` adds, by path.
    """

    request: Request
    context: Context
    values: int = 0
    done: list[str] = field(default_factory=list)
    stopped: bool = False
    compartments: list[str] = field(default_factory=list)
    warnings: list[Issue] = field(default_factory=list)
    suffixes: dict[tuple[str | int, ...], list[str]] = field(default_factory=dict)
    _followed: dict[str, asyncio.Task[Resource | None]] = field(default_factory=dict)
    _contained: dict[int, tuple[Resource, list[Any]]] = field(default_factory=dict)
    _width: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(WIDTH))

    def count(self, values: int = 1) -> None:
        """More values; FhirError when there are too many."""
        self.values += values
        if self.values > MOST_VALUES:
            text = f"The answer would have more than {MOST_VALUES:,} values; ask for fewer fields or shorter lists."
            raise FhirError("too-costly", text, "query")

    def loaded(self, stored: Stored) -> Resource:
        """The resource parsed, its contained resources at hand."""
        self.count(A_RESOURCE)
        self.compartments.append(stored.compartment)
        found: Any = decode(stored.body or b"{}")
        return self.held(found)

    def held(self, resource: Resource) -> Resource:
        """The resource, remembered as that which its references to `#...` speak of."""
        inner = resource.get("contained")
        if inner:
            for node in _references(resource):
                self._contained[id(node)] = (node, inner)
        return resource

    # Reading

    async def read(self, kind: str, id: str) -> Resource | None:
        """A resource by id, None where there is none for the caller; FhirError 403 where the type is not granted."""
        stored = await view(self.request, self.context, kind, id)
        return self.loaded(stored) if stored is not None else None

    async def follow(self, reference: Resource) -> Resource | None:
        """The target of a reference; what is not here, not granted or not for the caller all look the same."""
        text = str(reference.get("reference") or "")
        if text.startswith("#"):
            rows = self._contained.get(id(reference), (None, []))[1]
            return next((row for row in rows if row.get("id") == text[1:]), None)
        if text not in self._followed:
            self._followed[text] = asyncio.ensure_future(self._target(text))
        return await self._followed[text]

    async def _target(self, reference: str) -> Resource | None:
        stored = await view_target(self.request, self.context, reference)
        return self.loaded(stored) if stored is not None else None

    async def search(self, kind: str, pairs: Pairs, cursor: Any = None) -> tuple[Found, list[Resource]]:
        """One page of a search of the caller."""
        async with self._width:
            self.count(0)  # what waited may have become too much meanwhile
            found = await views(self.request, self.context, kind, pairs, cursor)
        self.warnings += found.warnings
        return found, [self.loaded(stored) for stored in found.matches]

    def is_true(self, expression: str, value: Any, kind: str) -> bool:
        """Whether a FHIRPath expression holds for an element or a resource."""
        return self.evaluated(expression, value, kind) == [True]

    def evaluated(self, expression: str, value: Any, kind: str) -> list[Any]:
        """The values that a FHIRPath expression finds in an element or a resource."""
        env = Environment(now=self.context.now())
        return [node.value for node in compile(expression, kind)(Node(value, kind), env)]

    # Page links

    def sealed(self, kind: str, state: Any) -> str:
        """A cursor for this caller and type alone."""
        return self.context.seal.close(state, f"graphql {kind}{access.mark(self.request)}")

    def opened(self, kind: str, cursor: str) -> Any:
        """What a cursor stands for; FhirError 400 for one that was not made here for this caller."""
        return self.context.seal.open(cursor, f"graphql {kind}{access.mark(self.request)}")

    # Writing

    async def write(self, method: str, kind: str, id: str = "", resource: Resource | None = None) -> Resource | None:
        """Carry out a create, update or delete as REST does it, and have it told in the audit trail.

        After one that fails nothing more is carried out: the answer is an error, and what came before is told in it.
        """
        if self.stopped:
            raise FhirError("processing", "This was not carried out, as a part before it failed.")
        parts = (kind, id) if id else (kind,)
        request = replace(self.request, method=method, parts=parts, query=[], headers={}, body=b"", resource=resource)
        interaction, _ = WRITES[method]
        try:
            answer = await self._written(request)
        except Exception as error:
            self.stopped = True
            await self._tell(request, interaction, error)
            raise
        await self._tell(request, interaction, answer)
        self.done.append(f"{interaction} {kind}/{answer.stored.id if answer.stored is not None else id}")
        if answer.stored is None:
            return None
        return self.loaded(access.shown(request, self.context, answer.stored))

    async def _written(self, request: Request) -> Response:
        interaction, handler = WRITES[request.method]
        await access.admit(request, self.context, interaction)
        return await handler(request, self.context)

    async def _tell(self, request: Request, interaction: str, answer: Response | Exception) -> None:
        if self.context.trail is not None:
            await self.context.trail.record(request, interaction, answer)


def _references(node: Any) -> list[Resource]:
    """The references within a resource to what it contains."""
    if isinstance(node, list):
        return [found for item in node for found in _references(item)]
    if not isinstance(node, dict):
        return []
    own = [node] if str(node.get("reference", "")).startswith("#") else []
    return own + [found for value in node.values() for found in _references(value)]
