"""What a search asks for, as plain data (http://hl7.org/fhir/R4/search.html), and the state while it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from profiles import model
from profiles.outcome import FhirError, Issue
from search.clauses import Clause, Kinds, every
from search.params import Parameter
from search.values import Around

Pair = tuple[str, str]
Hop = tuple[tuple[str, ...], str]


@dataclass(frozen=True, slots=True)
class Sort:
    """One key of the order: a parameter, or `_id` or `_lastUpdated` where `parameter` is None.

    `hops` lead to the resource that has the value, for `patient.family`: each the (keys, target type) it may go by.
    """

    code: str
    descending: bool = False
    parameter: Parameter | None = None
    hops: tuple[tuple[Hop, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Include:
    """`_include` or `_revinclude`: `parameters` on `source` (all for `*`), only to `target` where it is given."""

    source: str
    parameters: tuple[Parameter, ...]
    target: str = ""
    iterate: bool = False
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for; `used` are the parameters that were understood, for the self link."""

    types: tuple[str, ...]
    where: Clause
    used: tuple[Pair, ...] = ()
    sort: tuple[Sort, ...] = ()
    count: int | None = None
    total: str | None = None
    summary: str | None = None
    elements: tuple[str, ...] = ()
    includes: tuple[Include, ...] = ()
    contained: str = "false"
    contained_type: str = "container"
    explain: bool = False
    warnings: tuple[Issue, ...] = ()
    parameters: frozenset[str] = frozenset()  # urls of the search parameters that were used
    held: Clause | None = None  # the condition on what is contained, once links are looked up

    @property
    def clauses(self) -> Clause:
        """The condition with the types it speaks of."""
        return every((Kinds(self.types), self.where)) if self.types else self.where

    @property
    def inside(self) -> Clause:
        """The condition on what is contained."""
        return self.where if self.held is None else self.held


@dataclass(slots=True)
class Reading:
    """A query while it is read."""

    types: tuple[str, ...]
    around: Around
    lenient: bool
    nothing: bool = False  # no type is left to look at
    criteria: list[dict[str | None, Clause]] = field(default_factory=list)  # per type searched
    used: list[Pair] = field(default_factory=list)
    warnings: list[Issue] = field(default_factory=list)
    sort: tuple[Sort, ...] = ()
    count: int | None = None
    total: str | None = None
    summary: str | None = None
    elements: tuple[str, ...] = ()
    includes: list[Include] = field(default_factory=list)
    contained: str = "false"
    contained_type: str = "container"
    explain: bool = False

    def attempt(self, name: str, value: str, step: Callable[[], None]) -> None:
        """Read one parameter; with lenient handling a fault becomes a warning and the parameter is left out."""
        try:
            step()
        except FhirError as error:
            fault = placed(error, name)
            if not self.lenient:
                raise fault from None
            self.warnings += [Issue("warning", i.code, f"Ignored: {i.text}", i.expression) for i in fault.issues]
        else:
            self.used.append((name, value))


def placed(error: FhirError, name: str) -> FhirError:
    """The error with the parameter's name in its text and place."""
    issues = [
        i
        if i.expression
        else Issue(i.severity, i.code, i.text if name in i.text else f"{name}: {i.text}", (f"http.{name}",))
        for i in error.issues
    ]
    return FhirError.of(issues, status=error.status)


def known_type(name: str) -> str:
    """The name, when it is a resource type; FhirError otherwise."""
    if name not in model.RESOURCE_TYPES:
        raise FhirError("invalid", f"{name!r} is not a resource type of FHIR R4")
    return name
