"""What keeps a SearchParameter from being used (http://hl7.org/fhir/R4/searchparameter.html), told on storing it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from profiles.fhirpath import FhirPathError
from profiles.fhirpath import compile as compile_path
from profiles.fhirpath import parse as parse_path
from profiles.fhirpath.check import check
from profiles.model import RESOURCE_TYPES, is_a
from profiles.outcome import FhirError, Issue
from search.params import Parameter, Registry, row_of
from search.places import PARTS, alternatives
from search.query import CONTROLS, OTHERS
from search.specials import SPECIALS
from search.types import EMIT

# States in which a parameter is used; R4's own are drafts.
LIVE = frozenset({"active", "draft"})
TAKEN = frozenset({*SPECIALS, *CONTROLS, *OTHERS, "_has", "_page"})
SAME = {"_id": ".id", "_lastUpdated": ".meta.lastUpdated"}
EVERYWHERE = ("Resource", "DomainResource")

_CODE = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]{0,63}", re.ASCII)
_PLACE = "SearchParameter"


def faults(resource: Mapping[str, Any], registry: Registry) -> list[Issue]:
    """Every reason why a live SearchParameter cannot be used beside the parameters of the registry; [] for none."""
    if resource.get("status") not in LIVE or _is_official(resource) or _says_the_same(resource):
        return []
    try:
        found = list(_faults(resource, registry))
    except FhirError as error:
        found = [_fault(issue.text, (issue.expression or (_PLACE,))[0]) for issue in error.issues]
    return list(dict.fromkeys(found))


def _is_official(resource: Mapping[str, Any]) -> bool:
    """One of R4 as R4 has it, which clients may store to read it back."""
    row = Registry.r4().rows.get(str(resource.get("url")))
    return row is not None and (row.expression, row.type) == (resource.get("expression", ""), resource.get("type"))


def _says_the_same(resource: Mapping[str, Any]) -> bool:
    """`_id` or `_lastUpdated` as they are, which profiles define once more to require them."""
    ending = SAME.get(str(resource.get("code")))
    paths = alternatives(str(resource.get("expression", "")))
    return ending is not None and all(path.endswith(ending) for path in paths)


def _fault(text: str, place: str) -> Issue:
    return Issue("error", "business-rule", text, (place,))


def _faults(resource: Mapping[str, Any], registry: Registry) -> Iterator[Issue]:
    row = row_of(resource)
    yield from _code_faults(row.code)
    yield from _base_faults(row.bases)
    if row.type == "special":
        yield _fault("A parameter of type special needs a meaning of its own in the server.", f"{_PLACE}.type")
    elif not row.expression:
        yield _fault("Without an expression nothing can be indexed.", f"{_PLACE}.expression")
    else:
        yield from _expression_faults(resource, registry)


def _code_faults(code: str) -> Iterator[Issue]:
    if code in TAKEN:
        yield _fault(f"{code} has a meaning of its own in every search; choose another code.", f"{_PLACE}.code")
    elif not _CODE.fullmatch(code):
        yield _fault(
            f"{code!r} cannot be written in a search: letters, digits, - and _ are possible.", f"{_PLACE}.code"
        )


def _base_faults(bases: tuple[str, ...]) -> Iterator[Issue]:
    for base in bases:
        if base not in RESOURCE_TYPES and base not in EVERYWHERE:
            yield _fault(f"{base!r} is not a resource type of FHIR R4.", f"{_PLACE}.base")


def _expression_faults(resource: Mapping[str, Any], registry: Registry) -> Iterator[Issue]:
    """Each alternative leads somewhere on some base, and each base has an alternative whose values can be written."""
    row = row_of(resource)
    bases = [base for base in row.bases if base in RESOURCE_TYPES or base in EVERYWHERE]
    for text in alternatives(row.expression):
        yield from _path_faults(text, bases)
    wider = registry.with_parameters([resource])
    for base in bases:
        parameter = wider.bound(row, base if base in RESOURCE_TYPES else "Basic")
        yield from _value_faults(parameter, base)
        yield from _code_conflicts(parameter, base)


def _path_faults(text: str, bases: list[str]) -> Iterator[Issue]:
    reasons: list[str] = []
    for base in bases:
        try:
            compile_path(text)
            check(parse_path(text), base)
        except FhirPathError as error:
            reasons.append(error.text)
        else:
            return
    if reasons:
        yield _fault(f"{text}: {reasons[0]}", f"{_PLACE}.expression")


def _value_faults(parameter: Parameter, base: str) -> Iterator[Issue]:
    if not parameter.atoms:
        yield _fault(f"The expression leads nowhere on {base}.", f"{_PLACE}.expression")
        return
    if parameter.type == "composite":
        if not parameter.components:
            yield _fault("A composite needs components.", f"{_PLACE}.component")
        empty = [c.code for c in parameter.components if not c.atoms]
        if empty:
            yield _fault(f"The components {', '.join(empty)} lead nowhere on {base}.", f"{_PLACE}.component.expression")
        return
    kinds = {route.type for atom in parameter.atoms for route in atom.place.routes}
    computed = any(atom.place.expression for atom in parameter.atoms)
    if not computed and not any(_is_written(parameter.type, kind) for kind in kinds):
        possible = sorted(name for search, name in EMIT if search == parameter.type and "flag" not in name)
        text = f"A {parameter.type} cannot be taken from {', '.join(sorted(kinds))}, but from {', '.join(possible)}."
        yield _fault(text, f"{_PLACE}.type")


def _is_written(search_type: str, kind: str) -> bool:
    written = {name for search, name in EMIT if search == search_type} | {n for s, n in PARTS if s == search_type}
    return kind == "Extension" or kind in written or any(is_a(kind, name) for name in written)


def _code_conflicts(parameter: Parameter, base: str) -> Iterator[Issue]:
    """A code of R4 keeps its meaning: profiles may define it anew when they find all that it finds."""
    known = Registry.r4().lookup(base, parameter.code)
    if known is not None and not set(known.keys) <= set(parameter.keys):
        text = f"{parameter.code} of {base} is {known.url}; choose another code, or a path that has its values too."
        yield _fault(text, f"{_PLACE}.code")
