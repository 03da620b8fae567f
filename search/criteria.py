"""One parameter of a query as a clause: its modifier, its chain, its values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from profiles import model
from profiles.outcome import FhirError
from search.clauses import ALWAYS, NEVER, Chain, Clause, Has, Ids, Listed, OneOf, Updated, every, some, without
from search.filter import filter_clause
from search.params import TYPE_CODES, Parameter, Registry
from search.types import MANY, MATCH, modifiers
from search.types.date import fuzziness, matches_updated
from search.types.reference import possible
from search.values import Around, invalid, prefixed, span, split, unescape
from search.words import words_clause

# Chains and _has may be nested, but each level is another look at the database (attack D05).
DEEPEST = 5
# With these, all values must fail; with the others one of them must match.
NEGATIVE = frozenset({"not", "not-in"})


@dataclass(frozen=True, slots=True)
class Criteria:
    """Reads parameters against one registry."""

    around: Around

    @property
    def registry(self) -> Registry:
        return self.around.registry

    def clause(self, type_name: str | None, name: str, value: str, depth: int = 0) -> Clause:
        """What one parameter of a query asks of a resource of the type; None is a resource of any type."""
        if depth > DEEPEST:
            raise FhirError("too-costly", f"{name}: chains and _has go at most {DEEPEST} levels deep")
        if name.startswith("_has:"):
            return self.has(type_name, name, lambda source, rest: self.clause(source, rest, value, depth + 1))
        head, dot, rest = name.partition(".")
        if dot:
            return self._chain(type_name, head, rest, value, depth)
        code, _, modifier = name.partition(":")
        special = SPECIALS.get(code)
        if special is not None:
            return special(self, type_name, modifier, value)
        return self._plain(self.parameter(type_name, code), modifier, value)

    def parameter(self, type_name: str | None, code: str) -> Parameter:
        """The parameter, or FhirError with the allowed choices."""
        found = self.registry.lookup(type_name or "Resource", code)
        if found is None:
            known = {*SPECIALS, "_has", *(p.code for p in self.registry.of(type_name or "Resource"))}
            where = type_name or "a search over all types"
            raise invalid(f"Unknown search parameter {code!r} for {where}; known are {', '.join(sorted(known))}")
        self.around.asked.add(found.url)
        if not found.atoms:
            raise FhirError("not-supported", f"The search parameter {code!r} is not supported")
        return found

    def _plain(self, parameter: Parameter, modifier: str, value: str) -> Clause:
        match = MATCH.get((parameter.type, modifier))
        if match is None:
            raise FhirError("invalid", _no_modifier(parameter, modifier))
        values = [v for v in split(value, ",") if v or _empty(parameter)]
        many = MANY.get((parameter.type, modifier))
        if many is not None:
            return many(parameter, values, self.around)
        found = [match(parameter, v, self.around) for v in values]
        return every(found) if modifier in NEGATIVE else some(found)

    def _chain(self, type_name: str | None, head: str, rest: str, value: str, depth: int) -> Clause:
        """`subject:Patient.name=x`; without a type, every type the reference may be to that has the parameter."""
        code, _, kind = head.partition(":")
        targets = self.targets(type_name, code, kind)
        first: FhirError | None = None
        found: list[Clause] = []
        for parameter, target in targets:
            try:
                where = self.clause(target, rest, value, depth + 1)
            except FhirError as error:
                if error.code == "too-costly" or len(targets) == 1:
                    raise
                first = first or error
            else:
                found += self.steps(parameter, target, where)
        if not found and first is not None:
            raise FhirError("invalid", f"{head}.{rest} leads nowhere: {first.text}")
        return some(found)

    def targets(self, type_name: str | None, code: str, kind: str) -> list[tuple[Parameter, str]]:
        """The reference parameter with each type it may be followed to."""
        parameter = self.parameter(type_name, code)
        if parameter.type != "reference":
            raise FhirError("invalid", f"{code!r} is no reference, so nothing can be chained to it")
        return [(parameter, target) for target in self._targets(parameter, kind)]

    def _targets(self, parameter: Parameter, kind: str) -> list[str]:
        targets = list(dict.fromkeys(t for a in parameter.atoms for t in possible(parameter, a)))
        if not kind:
            return targets
        if kind not in targets:
            raise FhirError("invalid", f"{parameter.code}:{kind}: refers to {', '.join(targets)}")
        return [kind]

    def steps(self, parameter: Parameter, target: str, where: Clause) -> Iterator[Clause]:
        """A link per way an entry names the target: by its id, by its canonical url."""
        keys = tuple(a.key for a in parameter.atoms if target in possible(parameter, a))
        if keys and where != NEVER:
            yield Chain(keys, target, where)
        canonical = tuple(a.key for a in parameter.atoms if any(r.type == "canonical" for r in a.place.routes))
        if canonical and where != NEVER and self.registry.lookup(target, "url"):
            yield Chain(canonical, target, where, "canonical")

    def has(self, type_name: str | None, name: str, inner: Callable[[str, str], Clause]) -> Clause:
        """`_has:Observation:patient:code`: an Observation for which `inner` holds refers to this resource."""
        parts = name.split(":", 3)
        if len(parts) < 4 or not all(parts):
            raise FhirError("invalid", f"{name}: write _has:Type:reference:parameter")
        _, source, code, rest = parts
        if source not in model.RESOURCE_TYPES:
            raise FhirError("invalid", f"{name}: {source!r} is not a resource type of FHIR R4")
        if type_name is None:
            raise FhirError("invalid", f"{name}: _has needs a search on one type")
        parameter = self.parameter(source, code)
        if parameter.type != "reference" or type_name not in self._targets(parameter, ""):
            raise FhirError("invalid", f"{name}: {source}.{code} is no reference to a {type_name}")
        keys = tuple(a.key for a in parameter.atoms if type_name in possible(parameter, a))
        return Has(keys, source, type_name, inner(source, rest))

    def compartment(self, compartment: str, id_: str, type_name: str) -> Clause:
        """Membership: a reference to the compartment's owner under one of its parameters, or the owner itself."""
        text = f"{TYPE_CODES[compartment]}{id_}"
        atoms = [a for p in self.registry.compartment(compartment, type_name) for a in p.atoms]
        fitting = [a for a in atoms if not a.place.refers or compartment in a.place.refers]
        found: list[Clause] = [OneOf(tuple(dict.fromkeys(a.key + text for a in fitting)))] if fitting else []
        return some([*found, Ids((f"{compartment}/{id_}",))] if type_name == compartment else found)


def _no_modifier(parameter: Parameter, modifier: str) -> str:
    known = modifiers(parameter.type)
    types = " or the name of a resource type" if parameter.type == "reference" else ""
    return (
        f"{parameter.code} is a {parameter.type} and has no modifier {modifier!r}; known are {', '.join(known)}{types}"
    )


def _empty(parameter: Parameter) -> bool:
    raise invalid(f"{parameter.code}: a value between the commas is empty")


Special = Callable[[Criteria, str | None, str, str], Clause]


def _id(criteria: Criteria, type_name: str | None, modifier: str, value: str) -> Clause:
    """`_id`: the name of the document."""
    if modifier == "missing":
        return NEVER if value == "true" else ALWAYS
    if modifier not in ("", "not"):
        raise FhirError("invalid", f"_id has no modifier {modifier!r}; known are missing, not")
    ids = [unescape(v).removeprefix(f"{type_name}/") for v in split(value, ",")]
    types = [type_name] if type_name else sorted(model.RESOURCE_TYPES)
    found = Ids(tuple(f"{t}/{i}" for t in types for i in ids))
    return without(found) if modifier else found


def _last_updated(criteria: Criteria, type_name: str | None, modifier: str, value: str) -> Clause:
    """`_lastUpdated`: the instant beside the document."""
    if modifier == "missing":
        return NEVER if value == "true" else ALWAYS
    if modifier:
        raise FhirError("invalid", f"_lastUpdated has no modifier {modifier!r}; the only one is missing")
    found: list[Clause] = []
    for text in split(value, ","):
        prefix, rest = prefixed(unescape(text))
        asked = span(rest)
        fuzz = fuzziness(asked, criteria.around.now)
        found += [Updated(low, high) for low, high in matches_updated(prefix, asked, fuzz)]
    return some(found)


def _words(name: str) -> Special:
    def read(criteria: Criteria, type_name: str | None, modifier: str, value: str) -> Clause:
        _unmodified(name, modifier)
        return words_clause(name, unescape(value), type_name)

    return read


def _filter(criteria: Criteria, type_name: str | None, modifier: str, value: str) -> Clause:
    _unmodified("_filter", modifier)
    return filter_clause(criteria, type_name, value)


def _list(criteria: Criteria, type_name: str | None, modifier: str, value: str) -> Clause:
    """`_list`: the resource is an item of the List."""
    _unmodified("_list", modifier)
    names = [unescape(v).removeprefix("List/") for v in split(value, ",")]
    if not all(names):
        raise invalid("_list: an id of a List between the commas is empty")
    stored = [Listed((), "list", f"List/{name}", type_name or "") for name in names if name[0] != "$"]
    return some([*stored, *(_named(criteria, "_list", LISTS, type_name, n) for n in names if n[0] == "$")])


def _query(criteria: Criteria, type_name: str | None, modifier: str, value: str) -> Clause:
    """`_query`: a query that has a name."""
    _unmodified("_query", modifier)
    return _named(criteria, "_query", QUERIES, type_name, value)


def _named(criteria: Criteria, what: str, table: Named, type_name: str | None, name: str) -> Clause:
    """The parameters that a name of the table stands for on the type."""
    row = table.get((type_name or "", name))
    if row is None:
        known = sorted(f"{name} on {kind}" for kind, name in table)
        raise FhirError("not-supported", f"{what}: nothing is named {name!r} here; known are {', '.join(known)}")
    return every(criteria.clause(type_name, code, text) for code, text in row)


def _unmodified(name: str, modifier: str) -> None:
    if modifier:
        raise FhirError("invalid", f"{name} has no modifier {modifier!r}")


# (type, name) -> the parameters that the name stands for; operations add theirs here.
Named = dict[tuple[str, str], tuple[tuple[str, str], ...]]
QUERIES: Named = {
    ("Patient", "current"): (("active:not", "false"), ("deceased", "false")),
    ("Condition", "problem-list"): (
        ("category", "problem-list-item"),
        ("clinical-status", "active,recurrence,relapse"),
    ),
    ("MedicationRequest", "current"): (("status", "active,on-hold"),),
}
_ALLERGIES = (("clinical-status", "active"), ("verification-status:not", "refuted,entered-in-error"))
# Functional lists: what is current, whoever keeps it (http://hl7.org/fhir/R4/lifecycle.html#current).
LISTS: Named = {
    ("AllergyIntolerance", "$current-allergies"): _ALLERGIES,
    ("AllergyIntolerance", "$current-drug-allergies"): (*_ALLERGIES, ("category", "medication")),
    ("Condition", "$current-problems"): (
        ("clinical-status", "active,recurrence,relapse"),
        ("verification-status:not", "refuted,entered-in-error"),
    ),
    ("MedicationRequest", "$current-medications"): (("status", "active,on-hold"),),
    ("MedicationStatement", "$current-medications"): (("status", "active,intended,on-hold"),),
}
SPECIALS: dict[str, Special] = {
    "_id": _id,
    "_lastUpdated": _last_updated,
    "_text": _words("_text"),
    "_content": _words("_content"),
    "_filter": _filter,
    "_list": _list,
    "_query": _query,
}
