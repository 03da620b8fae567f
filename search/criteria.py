"""One parameter of a query as a clause: its modifier, its chain, its values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from profiles import model
from profiles.outcome import FhirError
from search.clauses import NEVER, Chain, Clause, Has, Ids, OneOf, every, some
from search.entries import entries
from search.params import TYPE_CODES, Parameter, Registry
from search.types import MANY, MATCH, modifiers
from search.types.reference import possible
from search.values import Around, invalid, split

# Chains and _has may be nested, but each level is another look at the database (attack D05).
DEEPEST = 5
# With these, all values must fail; with the others one of them must match.
NEGATIVE = frozenset({"not", "not-in"})


@dataclass(frozen=True, slots=True)
class Criteria:
    """Reads parameters against one registry; `specials` are those that are not in it."""

    around: Around
    specials: Mapping[str, Special]

    @property
    def registry(self) -> Registry:
        return self.around.registry

    def clause(self, type_name: str | None, name: str, value: str, depth: int = 0) -> Clause:
        """What one parameter of a query asks of a resource of the type; None is a resource of any type."""
        if depth > DEEPEST:
            raise FhirError("too-costly", f"{name}: chains and _has go at most {DEEPEST} levels deep")
        if name.startswith("_has:"):
            return self.referred((type_name,) if type_name else (), name, value, depth)
        head, dot, rest = name.partition(".")
        if dot:
            return self._chain(type_name, head, rest, value, depth)
        code, colon, modifier = name.partition(":")
        if colon and not modifier:
            raise invalid(f"{name}: a modifier is missing after the colon")
        special = self.specials.get(code)
        if special is not None:
            return special(self, type_name, modifier, value)
        return self._plain(self.parameter(type_name, code), modifier, value)

    def parameter(self, type_name: str | None, code: str) -> Parameter:
        """The parameter, or FhirError with the allowed choices."""
        found = self.registry.lookup(type_name or "Resource", code)
        if found is None:
            known = {*self.specials, "_has", *(p.code for p in self.registry.of(type_name or "Resource"))}
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
        targets = self.targets(type_name, head)
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

    def targets(self, type_name: str | None, head: str) -> list[tuple[Parameter, str]]:
        """The reference parameter of `subject` or `subject:Patient` with each type it may be followed to."""
        code, colon, kind = head.partition(":")
        if colon and not kind:
            raise invalid(f"{head} a resource type is missing after the colon")
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
            yield Chain(keys, target, where, inside=where, read=partial(entries, registry=self.registry))
        canonical = tuple(a.key for a in parameter.atoms if any(r.type == "canonical" for r in a.place.routes))
        if canonical and where != NEVER and self.registry.lookup(target, "url"):
            yield Chain(canonical, target, where, "canonical")

    def referred(self, types: Sequence[str], name: str, value: str, depth: int = 0) -> Clause:
        """`_has` on resources of these types, or of any."""
        return self.has(types, name, lambda source, rest: self.clause(source, rest, value, depth + 1))

    def has(self, types: Sequence[str], name: str, inner: Callable[[str, str], Clause]) -> Clause:
        """`_has:Observation:patient:code`: an Observation for which `inner` holds refers to this resource."""
        parts = name.split(":", 3)
        if len(parts) < 4 or not all(parts):
            raise FhirError("invalid", f"{name}: write _has:Type:reference:parameter")
        _, source, code, rest = parts
        if source not in model.RESOURCE_TYPES:
            raise FhirError("invalid", f"{name}: {source!r} is not a resource type of FHIR R4")
        parameter = self.parameter(source, code)
        keys: dict[tuple[str, ...], list[str]] = {}  # by the types that a place may refer to
        for atom in parameter.atoms if parameter.type == "reference" else ():
            own = tuple(t for t in possible(parameter, atom) if t in types or not types)
            keys.setdefault(own, []).append(atom.key)
        keys.pop((), None)
        if not keys:
            wanted = f" to a {' or '.join(types)}" if types else ""
            raise FhirError("invalid", f"{name}: {source}.{code} is no reference{wanted}")
        where = inner(source, rest)
        named = Has(*self._canonical(parameter, types, source), where, "canonical")
        found = [Has(tuple(found), source, own, where) for own, found in keys.items()]
        return some([*found, named] if named.own_types else found)

    def _canonical(
        self, parameter: Parameter, types: Sequence[str], source: str
    ) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
        """The keys of canonical urls, the source, and the types that can be meant by them."""
        atoms = [a for a in parameter.atoms if any(r.type == "canonical" for r in a.place.routes)]
        own = dict.fromkeys(t for a in atoms for t in possible(parameter, a) if t in types or not types)
        return tuple(a.key for a in atoms), source, tuple(t for t in own if self.registry.lookup(t, "url"))

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
