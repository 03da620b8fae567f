"""References: relative, absolute, versioned, canonical or by identifier (http://hl7.org/fhir/R4/search.html#reference).

Entries: two characters for the type and the id (`Pa123`); `^` and the url for what is not on this server;
`^url|version` for a canonical; `~` and a token for an identifier; `#` for a contained resource; nothing for a display
alone.
"""

from __future__ import annotations

import re
from typing import Any

from profiles import model
from search.clauses import NEVER, Between, Clause, Listed, OneOf, after, some, starting
from search.marks import FIRST, name_inside
from search.params import TYPE_CODES, Atom, Parameter
from search.texts import cut, fold_code, system, token, tokens
from search.types.rows import Add, Emit
from search.values import Around, invalid, split, unescape

ID = r"[A-Za-z0-9\-.]{1,64}"
_RELATIVE = re.compile(rf"([A-Z][A-Za-z]+)/({ID})(?:/_history/({ID}))?", re.ASCII)
_ID = re.compile(ID, re.ASCII)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:", re.ASCII)
# `.../Type/id` at another server, with its version or without.
_ELSEWHERE = re.compile(rf"([A-Za-z]+://.*/([A-Z][A-Za-z]+)/{ID})(?:/_history/{ID})?", re.ASCII)


def local(text: str, base: str) -> tuple[str, str, str] | None:
    """(type, id, version) of a reference to a resource of this server, given relative or absolute."""
    if base and text.startswith(base + "/"):
        text = text[len(base) + 1 :]
    found = _RELATIVE.fullmatch(text)
    return (found[1], found[2], found[3] or "") if found and found[1] in TYPE_CODES else None


def elsewhere(text: str) -> tuple[str, str] | None:
    """(url without a version, type) of a reference to a resource of another server."""
    found = _ELSEWHERE.fullmatch(text)
    return (found[1], found[2]) if found and found[2] in TYPE_CODES else None


def emit_reference(key: str) -> Emit:
    def emit(value: Any, add: Add, base: str) -> None:
        text = value.get("reference")
        if text:
            kind, _, rest = text.partition("/")
            if kind in TYPE_CODES and rest and "/" not in rest:
                add(key + TYPE_CODES[kind] + rest)
            else:
                _add_other(key, text, add, base)
        identifier = value.get("identifier")
        if identifier and "value" in identifier:
            add(f"{key}~{token(identifier['value'], identifier.get('system', ''))}")
        elif not text:
            add(key)

    return emit


def _add_other(key: str, text: str, add: Add, base: str) -> None:
    here = local(text, base)
    if here is None:
        add(key + cut(text) if text[0] == "#" else f"{key}^{cut(text)}")
        if "/_history/" in text and (there := elsewhere(text)):  # found without its version too
            add(f"{key}^{cut(there[0])}")
        return
    kind, id_, version = here
    add(key + TYPE_CODES[kind] + id_)
    if version:
        add(f"{key}{TYPE_CODES[kind]}{id_}/_history/{version}")


def emit_canonical(key: str) -> Emit:
    def emit(value: Any, add: Add, base: str) -> None:
        here = local(value, base)
        if here is not None:
            add(key + TYPE_CODES[here[0]] + here[1])
        elif value[:1] == "#":
            add(key + cut(value))
        else:
            add(canonical_text(key, value))
            if "#" in value:  # found with the part it points to, and without
                add(canonical_text(key, _whole(value)))

    return emit


def _whole(value: str) -> str:
    """`url|version` of `url|version#part` or `url#part`."""
    return value.partition("#")[0]


def canonical_text(key: str, value: str) -> str:
    """`^url|version`, the bar always there; the part of it that is meant stands with the url."""
    url, _, version = value.partition("|")
    version, hash, part = version.partition("#")
    return f"{key}^{cut(url + hash + part)}|{fold_code(version)}"


def emit_resource(key: str) -> Emit:
    """A resource that stands in the place of a reference (the first entry of a Bundle)."""

    def emit(value: Any, add: Add, base: str) -> None:
        code = TYPE_CODES.get(value.get("resourceType", ""))
        add(key + code + value["id"] if code and "id" in value else key)
        if value.get("resourceType") in FIRST:
            add(key + cut(name_inside(value)))

    return emit


def refers_to(parameter: Parameter, value: str, around: Around) -> Clause:
    """A reference to this resource, wherever it may be."""
    return _refers(parameter, unescape(value), around, None)


def of_type(type_name: str) -> Any:
    """`:Patient`: the value is an id, and the reference is to that type."""

    def match(parameter: Parameter, value: str, around: Around) -> Clause:
        text = unescape(value)
        here = local(text, around.base)
        if here and here[0] != type_name:
            return NEVER
        return _refers(parameter, text, around, type_name)

    return match


def _refers(parameter: Parameter, text: str, around: Around, type_name: str | None) -> Clause:
    if not text:
        raise invalid("A reference to search for must not be empty")
    here = local(text, around.base)
    if here is not None:
        return some(_to_resource(atom, *here) for atom in parameter.atoms)
    if _ID.fullmatch(text):
        return some(_to_id(parameter, atom, text, type_name) for atom in parameter.atoms)
    if _URL.match(text) or text[0] == "#":
        return some(_to_url(atom, text, type_name) for atom in parameter.atoms)
    raise invalid(f"{text!r} is not a reference: an id, Type/id, or a url")


def _to_resource(atom: Atom, kind: str, id_: str, version: str) -> Clause:
    if atom.place.refers and kind not in atom.place.refers:
        return NEVER
    return OneOf((f"{atom.key}{TYPE_CODES[kind]}{id_}" + (f"/_history/{version}" if version else ""),))


def _to_id(parameter: Parameter, atom: Atom, id_: str, type_name: str | None) -> Clause:
    types = possible(parameter, atom)
    wanted = [t for t in types if type_name in (None, t)]
    return OneOf(tuple(f"{atom.key}{TYPE_CODES[t]}{id_}" for t in wanted)) if wanted else NEVER


def _to_url(atom: Atom, text: str, type_name: str | None) -> Clause:
    if text[0] == "#":
        return OneOf((atom.key + cut(text),))
    found: list[Clause] = []
    if any(r.type in ("canonical", "uri") for r in atom.place.routes) or atom.place.expression:
        _, bar, version = text.partition("|")
        exact = canonical_text(atom.key, text)
        found.append(OneOf((exact,)) if bar and version else starting(exact))
    if any(r.type == "Reference" for r in atom.place.routes) or atom.place.expression:
        there = elsewhere(text)
        if there is None or (there[1] in (atom.place.refers or (there[1],)) and type_name in (None, there[1])):
            found.append(OneOf((f"{atom.key}^{cut(text)}",)))
    return some(found)


def possible(parameter: Parameter, atom: Atom) -> tuple[str, ...]:
    """The types a reference here may be to."""
    types = atom.place.refers or parameter.targets
    if not types or "Resource" in types:
        return tuple(sorted(model.RESOURCE_TYPES))
    return tuple(t for t in types if t in TYPE_CODES)


def by_identifier(parameter: Parameter, value: str, around: Around) -> Clause:
    """`:identifier`: the identifier in the reference itself, as a token."""
    parts = [unescape(p) for p in split(value, "|")]
    if len(parts) > 2 or not any(parts):
        raise invalid(f"{value!r} is not an identifier: value, system|value, |value or system|")
    if not parts[-1]:
        return some(Between(f"{key}~", after(f"{key}~"), tail=f"|{system(parts[0])}") for key in parameter.keys)
    if len(parts) == 2:
        return OneOf(tuple(f"{key}~{token(parts[1], parts[0])}" for key in parameter.keys))
    return some(starting(f"{key}~{form}|") for key in parameter.keys for form in tokens(parts[0]))


def tree(how: str) -> Any:
    """`:below` and `:above`: along a hierarchy such as Location.partOf, or the versions of a canonical."""

    def match(parameter: Parameter, value: str, around: Around) -> Clause:
        text = unescape(value)
        url, bar, version = text.partition("|")
        here = local(text, around.base)
        if bar or (here is None and _URL.match(text) and "canonical" in parameter.value_types):
            return _versions(parameter, url, version, how)
        targets = [here[0]] if here else list(dict.fromkeys(t for a in parameter.atoms for t in possible(parameter, a)))
        if here is None and not _ID.fullmatch(text):
            raise invalid(f"{text!r}: {how} needs Type/id, an id, or a canonical url|version")
        trees = [t for t in targets if t in PART_OF]
        if not trees:
            raise invalid(f"{how} goes along a tree, and {text!r} is in no tree, as there is of {', '.join(PART_OF)}")
        return some(Listed(parameter.keys, how, f"{t}/{here[1] if here else text}", t) for t in trees)

    return match


def _versions(parameter: Parameter, url: str, version: str, how: str) -> Clause:
    """`url|2` is above `url|2.1` and below `url`, as every version is."""
    if not version and how == "below":
        return some(starting(canonical_text(key, url)) for key in parameter.keys)
    parts = version.split(".")
    exact = OneOf(tuple(canonical_text(key, f"{url}|{version}") for key in parameter.keys))
    if how == "below":
        return some((exact, *(starting(canonical_text(key, f"{url}|{version}") + ".") for key in parameter.keys)))
    shorter = [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
    return OneOf(tuple(canonical_text(key, f"{url}|{v}") for key in parameter.keys for v in shorter))


# The parameter that leads to the parent, for the types that form a tree.
PART_OF = {
    "Location": "partof",
    "Organization": "partof",
    "Encounter": "part-of",
    "Procedure": "part-of",
    "CarePlan": "part-of",
    "ResearchStudy": "partof",
    "MedicationStatement": "part-of",
    "Communication": "part-of",
    "Task": "part-of",
}
EMIT = {
    "Reference": emit_reference,
    "canonical": emit_canonical,
    "uri": emit_canonical,
    "Resource": emit_resource,
}
MATCH = {
    "": refers_to,
    "identifier": by_identifier,
    "below": tree("below"),
    "above": tree("above"),
    **{name: of_type(name) for name in sorted(model.RESOURCE_TYPES)},
}
