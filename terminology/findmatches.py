"""CodeSystem/$find-matches: codes by their properties (http://hl7.org/fhir/R4/codesystem-operation-find-matches.html)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from profiles.outcome import FhirError
from terminology.concepts import Json, text_of
from terminology.filters import refuse_unknown_properties, values_of
from terminology.library import Library
from terminology.lookup import resolve
from terminology.packed import Codes, PackedSystem
from terminology.request import Parameters, answer, options_of, parameter
from terminology.systems import System

_MOST = 100
# Of more values than these each concept is asked.
_FEW = 100


def find_matches(library: Library, parameters: Parameters, code_system: Json | None = None) -> Json:
    """Codes that have every given value, exactly; without `exact` the codes below such values match too."""
    given = code_system or {}
    system = parameters.text("system") or given.get("url")
    if not system:
        raise FhirError("required", "The code system is needed: the parameter 'system'", status=400)
    wanted = [(p.text("code"), p) for p in parameters.parts("property")]
    if not wanted or any(code is None for code, _ in wanted):
        raise FhirError("required", "At least one property with a code and a value is needed", status=400)
    if code_system is not None:
        library = library.under([code_system])
    found = resolve(library, options_of(parameters), str(system), parameters.text("version") or given.get("version"))
    exact = bool(parameters.flag("exact"))
    pairs = [(str(code), _value(part)) for code, part in wanted]
    refuse_unknown_properties([found], [name for name, _ in pairs])
    rows = islice(_matching(found.system, pairs, exact), _MOST)
    return answer(*(_match(found.system, code, pairs) for code in rows))


def _value(part: Parameters) -> str:
    value = part.first("value")
    if value is None:
        raise FhirError("required", f"The property '{part.text('code')}' needs a value", status=400)
    return text_of(value)


def _matching(system: System, pairs: list[tuple[str, str]], exact: bool) -> Iterator[str]:
    accepted = [(name, {value} if exact else _with_below(system, value)) for name, value in pairs]
    for code in _candidates(system, accepted):
        if all(not values.isdisjoint(values_of(system, code, name)) for name, values in accepted):
            yield code


def _candidates(system: System, accepted: list[tuple[str, set[str]]]) -> Iterable[str]:
    """Of codes with a certain value only those that have it, where that can be found without reading them all."""
    for name, values in accepted:
        if name in ("parent", "child", "code"):
            known = [c for v in sorted(values) if (c := system.locate(v)) is not None]
            of = {"parent": system.children, "child": system.parents}.get(name)
            return dict.fromkeys(code for each in known for code in (of(each) if of else (each,)))
        if isinstance(system, PackedSystem) and len(values) <= _FEW:
            found = [system.having(name, value) for value in values]
            if None not in found:
                return Codes(system, sorted({number for numbers in found for number in numbers or ()}))
    return system.codes()


def _with_below(system: System, value: str) -> set[str]:
    known = system.locate(value)
    return {value} if known is None else {value, known, *system.descendants(known)}


def _match(system: System, code: str, pairs: list[tuple[str, str]]) -> Json:
    coding = {"system": system.url, "version": system.version, "code": code, "display": system.concept(code).display}
    parts = [parameter("code", {k: v for k, v in coding.items() if v is not None}, "Coding")]
    return {"name": "match", "part": [p for p in parts if p]}
