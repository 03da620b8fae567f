"""What a request is, and what it is answered with and from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from fhir_server.answers.links import Seal
from fhir_server.config import Config
from fhir_server.http.headers import PLAIN, Prefer, prefer
from fhir_server.store import Store, Stored, Transaction
from profiles.outcome import Issue
from search.params import Registry

Resource: TypeAlias = dict[str, Any]
Pairs: TypeAlias = list[tuple[str, str]]


@dataclass(slots=True)
class Request:
    """One interaction asked for: by HTTP, by an entry of a Bundle or by a test.

    `parts` are the segments of the path below the base, `headers` have lower-case names. An entry of a Bundle carries
    its `resource` already parsed; in a transaction it is also `checked`, `assigned` is the id it will get,
    `resolved` is what its criteria match, and `settle` writes the final references into what a patch made of a version.
    """

    method: str
    parts: tuple[str, ...] = ()
    query: Pairs = field(default_factory=list)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    resource: Resource | None = None
    id: str = ""
    principal: Any = None
    checked: bool = False
    assigned: str = ""
    resolved: list[Stored] | None = None
    settle: Callable[[Resource, Stored], Awaitable[None]] | None = None
    in_bundle: bool = False
    peer: str = ""
    left: Any = None  # what the caller may still ask in this minute
    notes: tuple[Issue, ...] = ()  # warnings that a Bundle of matches tells besides those of the search

    @property
    def type(self) -> str:
        """The resource type that the path names."""
        return self.parts[0]

    @property
    def prefer(self) -> Prefer:
        """The client's preferences."""
        value = self.headers.get("prefer")
        return prefer(value) if value else PLAIN

    def first(self, name: str) -> str | None:
        """The first value of a query parameter."""
        return next((value for key, value in self.query if key == name), None)


@dataclass(frozen=True, slots=True)
class Context:
    """What every interaction may use; inside a transaction `store` is the transaction, `outer` what it is of.

    `pending` are the search parameters (urls) that older resources are still being indexed for.
    `trail` is the audit trail (None without one), `done` what a transaction has carried out and will have told of.
    `later` are the checks of what a posted transaction leaves, put off to its end (None outside of one).
    """

    config: Config
    store: Store | Transaction
    registry: Registry
    seal: Seal
    now: Callable[[], datetime]
    new_id: Callable[[], str]
    outer: Store | None = None
    pending: frozenset[str] = frozenset()
    trail: Any = None
    done: list[tuple[Request, str, Any]] = field(default_factory=list)
    later: list[Callable[[], Awaitable[None]]] | None = None
