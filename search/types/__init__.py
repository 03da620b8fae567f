"""The tables of search: EMIT[(search type, FHIR type)] writes entries, MATCH[(search type, modifier)] asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from search.clauses import NEVER, Between, Chain, Clause, Kinds, after, some, starting, without
from search.params import TYPE_CODES, Parameter
from search.types import composite, date, number, quantity, reference, special, string, token, uri
from search.types.rows import Emitter, Match, presence
from search.values import Around, invalid

_MODULES = {
    "string": string,
    "token": token,
    "reference": reference,
    "date": date,
    "number": number,
    "quantity": quantity,
    "uri": uri,
    "composite": composite,
    "special": special,
}

EMIT: dict[tuple[str, str], Emitter] = {(k, t): row for k, m in _MODULES.items() for t, row in m.EMIT.items()}
EMIT |= {("sound", t): row for t, row in special.SOUND_EMIT.items()}

MATCH: dict[tuple[str, str], Match] = {(k, n): row for k, m in _MODULES.items() for n, row in m.MATCH.items()}
# Several values at once: a row where that is quicker than each by MATCH.
MANY: dict[tuple[str, str], Callable[[Parameter, Sequence[str], Around], Clause]] = {
    ("token", ""): token.matches_tokens
}
MATCH |= {("sound", n): row for n, row in special.SOUND_MATCH.items()}


def missing(parameter: Parameter, value: str, around: Around) -> Clause:
    """`:missing`: whether there is any value at all (http://hl7.org/fhir/R4/search.html#modifiers)."""
    if value not in ("true", "false"):
        raise invalid(f"{parameter.code}:missing is true or false, not {value!r}")
    present = some(_present(parameter))
    return without(present) if value == "true" else present


def _present(parameter: Parameter) -> list[Clause]:
    found: list[Clause] = []
    for atom in parameter.atoms:
        found += [c for t in atom.place.refers for c in _referring(atom.key, t)] or [starting(atom.key)]
    return found


MATCH |= {(kind, "missing"): missing for kind in (*_MODULES, "sound")}


def _referring(key: str, type_name: str) -> list[Clause]:
    """A reference to a resource of the type: here, at another server's base url, or contained."""
    elsewhere = f"{key}^"
    return [
        starting(key + TYPE_CODES[type_name]),
        Between(elsewhere, after(elsewhere), parts=(f"/{type_name}/",)),
        Chain((key,), type_name, NEVER, inside=Kinds((type_name,))),
    ]


def modifiers(kind: str) -> list[str]:
    """The modifiers of a search type, but for the names of resource types."""
    return sorted(n for k, n in MATCH if k == kind and n and not n[0].isupper())


__all__ = ["EMIT", "MANY", "MATCH", "missing", "modifiers", "presence"]
