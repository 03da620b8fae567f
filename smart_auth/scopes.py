"""SMART scopes: what a scope string asks for, what covers what, and what is granted (SMART App Launch 2.2, "Scopes").

`patient/Observation.rs?category=laboratory` is context, type, verbs and clauses. Version 1 (`.read`, `.write`, `.*`)
is read with the meaning that version 2 gives it and written back as it was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote

from smart_auth.formulas import Pair

VERBS = "cruds"
V1 = {"read": "rs", "write": "cud", "*": "cruds"}
CONTEXTS = ("patient", "user", "system")
# Launch scope -> the type of the context it asks for; a further launch context is one more row.
LAUNCH = {"launch/patient": "Patient", "launch/encounter": "Encounter"}
IDENTITY = frozenset({"openid", "fhirUser", "profile"})
REFRESH = frozenset({"offline_access", "online_access"})
PLAIN = frozenset({"launch", *LAUNCH, *IDENTITY, *REFRESH})
# A scope parameter beyond these is refused unread: the largest real ones seen are under 2,000 characters.
MAX_LENGTH = 16_000
MAX_SCOPES = 300

_CLINICAL = re.compile(
    r"(patient|user|system)/(\*|[A-Z][A-Za-z]{1,63})\.(read|write|\*|c?r?u?d?s?)(?:\?(\S+))?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Scope:
    """One clinical scope; `verbs` is a subset of `cruds` in that order, `asked` the text it came from."""

    context: str
    type: str
    verbs: str
    clauses: tuple[Pair, ...] = ()
    asked: str = ""

    @property
    def text(self) -> str:
        """The scope as granted: the client's own words where nothing was taken away."""
        return self.asked or self.canonical

    @property
    def canonical(self) -> str:
        """The scope in version 2 syntax."""
        query = "&".join(f"{name}={quote(value, safe=':/|,.*-_$')}" for name, value in self.clauses)
        return f"{self.context}/{self.type}.{self.verbs}" + (f"?{query}" if query else "")


@dataclass(frozen=True, slots=True)
class Scopes:
    """A parsed scope parameter: clinical scopes, plain ones (`openid` ...) and what was not understood."""

    clinical: tuple[Scope, ...] = ()
    plain: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The scope parameter to send back, plain ones first."""
        return " ".join([*self.plain, *(scope.text for scope in self.clinical)])

    @property
    def contexts(self) -> frozenset[str]:
        """The contexts that occur: any of `patient`, `user`, `system`."""
        return frozenset(scope.context for scope in self.clinical)

    def has(self, name: str) -> bool:
        """Whether the plain scope was granted."""
        return name in self.plain


def parse_scope(text: str, types: Collection[str] | None = None) -> Scope | None:
    """One clinical scope, or None when the text is not exactly one (verbs out of order, unknown type, more text)."""
    found = _CLINICAL.fullmatch(text)
    if found is None or (types is not None and found[2] != "*" and found[2] not in types):
        return None
    verbs = V1.get(found[3], found[3])
    clauses = _clauses(found[4]) if found[4] else ()
    if not verbs or clauses is None:
        return None
    return Scope(found[1], found[2], verbs, clauses, text)


def _clauses(query: str) -> tuple[Pair, ...] | None:
    pairs = [part.partition("=") for part in query.split("&") if part]
    if not pairs or any(not name or not value for name, _, value in pairs):
        return None
    return tuple(sorted({(unquote(name), unquote(value)) for name, _, value in pairs}))


def parse(text: str, types: Collection[str] | None = None) -> Scopes | None:
    """All scopes of a space-separated parameter, or None when it is too long to be one."""
    if len(text) > MAX_LENGTH:
        return None
    words = list(dict.fromkeys(text.split(" ")))
    if len(words) > MAX_SCOPES:
        return None
    clinical: list[Scope] = []
    plain: list[str] = []
    unknown: list[str] = []
    for word in filter(None, words):
        scope = parse_scope(word, types)
        if scope is not None:
            clinical.append(scope)
        else:
            (plain if word in PLAIN else unknown).append(word)
    return Scopes(tuple(clinical), tuple(plain), tuple(unknown))


def meet(a: Scope, b: Scope) -> Scope | None:
    """What both scopes allow, or None: the narrower type, the common verbs, the clauses of both."""
    if a.context != b.context or not (a.type == b.type or "*" in (a.type, b.type)):
        return None
    verbs = "".join(verb for verb in VERBS if verb in a.verbs and verb in b.verbs)
    if not verbs:
        return None
    kind = b.type if a.type == "*" else a.type
    clauses = tuple(sorted({*a.clauses, *b.clauses}))
    same = (kind, verbs, clauses) == (a.type, a.verbs, a.clauses)
    return Scope(a.context, kind, verbs, clauses, a.asked if same else "")


def covers(wide: Scope, narrow: Scope) -> bool:
    """Whether everything `narrow` allows is allowed by `wide`; a clause less is wider (never equality of texts)."""
    return (
        wide.context == narrow.context
        and wide.type in ("*", narrow.type)
        and set(narrow.verbs) <= set(wide.verbs)
        and set(wide.clauses) <= set(narrow.clauses)
    )


def all_covered(wide: Iterable[Scope], narrow: Iterable[Scope]) -> bool:
    """Whether each verb of each narrow scope is covered by some wide one (`.r` and `.s` together cover `.rs`)."""
    held = tuple(wide)
    return all(any(covers(w, replace(n, verbs=verb)) for w in held) for n in narrow for verb in n.verbs)


def shortest(scopes: Iterable[Scope]) -> tuple[Scope, ...]:
    """The scopes without those that another one covers, in their order."""
    kept: list[Scope] = []
    for scope in scopes:
        if any(covers(other, scope) for other in kept):
            continue
        kept = [other for other in kept if not covers(scope, other)]
        kept.append(scope)
    return tuple(kept)


def negotiate(
    requested: Scopes,
    allowed: Scopes,
    *,
    answerable: Callable[[str, tuple[Pair, ...]], bool] = lambda _type, _pairs: True,
) -> Scopes:
    """What of the request is granted: its meet with what the client is registered for, never more than either.

    `answerable(type, clauses)` says whether the search engine can decide the clauses exactly; a scope with clauses that
    it cannot is dropped, because a filter that is ignored would broaden it.
    """
    met = (meet(want, have) for want in requested.clinical for have in allowed.clinical)
    usable = (
        scope for scope in met if scope is not None and (not scope.clauses or answerable(scope.type, scope.clauses))
    )
    return Scopes(shortest(usable), tuple(name for name in requested.plain if name in allowed.plain))


def narrowed(granted: Scopes, asked: Scopes) -> Scopes | None:
    """The scopes of a refresh request (RFC 6749 §6): a part of what was granted, or None when it asks for more."""
    plain = set(asked.plain) <= set(granted.plain)
    if asked.unknown or not plain or not all_covered(granted.clinical, asked.clinical):
        return None
    return asked
