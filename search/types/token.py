"""Tokens: a code, with or without the system it is from (http://hl7.org/fhir/R4/search.html#token)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from profiles import model
from search.clauses import NEVER, Between, Body, Clause, Coded, OneOf, Resource, after, every, some, starting, without
from search.params import Parameter
from search.texts import code, loose, system, token, tokens
from search.types.reference import local
from search.types.rows import Add, Emit
from search.values import Around, invalid, split, unescape
from search.walks import values

# Datatypes whose codes carry no system in the JSON; the system follows from the element's value set.
BARE = frozenset({"code", "boolean", "string", "id", "uri", "flag:deceased"})
MIME_TYPES, MEDIA = "http://hl7.org/fhir/ValueSet/mimetypes", "urn:ietf:bcp:13"
BOOLEANS = frozenset({"http://terminology.hl7.org/CodeSystem/special-values", "http://hl7.org/fhir/special-values"})


def emit_coding(key: str) -> Emit:
    def emit(value: Any, add: Add, base: str) -> None:
        uri = value.get("system", "")
        add(f"{key}{code(value.get('code', ''), uri)}|{system(uri)}")

    return emit


def emit_concept(key: str) -> Emit:
    coding = emit_coding(key)

    def emit(value: Any, add: Add, base: str) -> None:
        codings = value.get("coding")
        if not codings:
            add(key)
            return
        for item in codings:
            coding(item, add, base)

    return emit


def emit_identifier(key: str) -> Emit:
    def emit(value: Any, add: Add, base: str) -> None:
        uri = value.get("system", "")
        add(f"{key}{code(value.get('value', ''), uri)}|{system(uri)}")

    return emit


def emit_text(key: str) -> Emit:
    def emit(value: Any, add: Add, base: str) -> None:
        add(f"{key}{code(value, '')}|")

    return emit


def emit_boolean(key: str) -> Emit:
    def emit(value: Any, add: Add, base: str) -> None:
        add(f"{key}true|" if value else f"{key}false|")

    return emit


def emit_deceased(key: str) -> Emit:
    """`Patient.deceased.exists() and Patient.deceased != false`, on the resource itself."""

    def emit(value: Any, add: Add, base: str) -> None:
        dead = value.get("deceasedBoolean") or "deceasedDateTime" in value
        add(f"{key}true|" if dead else f"{key}false|")

    return emit


def matches_token(parameter: Parameter, value: str, around: Around) -> Clause:
    """`code`, `system|code`, `|code` (which has no system) or `system|` (any code of it)."""
    return matches_tokens(parameter, [value], around)


def matches_tokens(parameter: Parameter, values: Sequence[str], around: Around) -> Clause:
    """One of several tokens, those of one system together: 1,000 of them take 3 ms, where one by one they took 14."""
    found: dict[str, list[str]] = {}
    alone: list[str] = []
    for value in values:
        parts = split(value, "|")
        if len(parts) > 2 or not any(parts):
            raise invalid(f"{value!r} is not a token: code, system|code, |code or system|")
        *uris, text = (unescape(part) for part in parts)
        if uris:
            found.setdefault(uris[0], []).append(text)
        else:
            alone.append(text)
    bare = [starting(f"{key}{form}|") for text in alone for key in parameter.keys for form in tokens(text)]
    return some((*bare, *(_of_system(parameter, uri, texts) for uri, texts in found.items())))


def _of_system(parameter: Parameter, uri: str, texts: Sequence[str]) -> Clause:
    """Codes of a system; an empty text stands for all of them."""
    codes = [text for text in texts if text]
    implied = [key for key, kind, value_set in parameter.bare if uri and uri in implied_systems(kind, value_set)]
    found: list[Clause] = []
    if codes:
        plain = [f"{key}{code(text, '')}|" for key in implied for text in codes]
        found.append(OneOf(tuple(dict.fromkeys([*_exact(parameter, uri, codes), *plain]))))
    if len(codes) < len(texts):
        found += [Between(key, after(key), tail=f"|{system(uri)}") for key in parameter.keys]
        found += [Between(key, after(key), tail="|") for key in implied]
    return some(found)


def _exact(parameter: Parameter, uri: str, codes: Sequence[str]) -> list[str]:
    end = f"|{system(uri)}"
    return [f"{key}{code(text, uri)}{end}" for key in parameter.keys for text in codes]


def implied_systems(type_name: str, value_set: str) -> frozenset[str]:
    """The systems an element of type code can mean, by its required binding."""
    if type_name in ("boolean", "flag:deceased"):
        return BOOLEANS
    if type_name != "code":
        return frozenset()
    return frozenset(model.required_codes().get(value_set.split("|")[0], ()))


def has_not(parameter: Parameter, value: str, around: Around) -> Clause:
    """`:not`: no coding matches, or there is none (http://hl7.org/fhir/R4/search.html#modifiers)."""
    return without(matches_token(parameter, value, around))


def of_type(parameter: Parameter, value: str, around: Around) -> Clause:
    """`:of-type`: an identifier by the system and code of its type, and its value."""
    if parameter.value_types and not parameter.value_types & {"Identifier", "Extension"}:
        raise invalid(f"{parameter.code}:of-type: only identifiers have a type, which {parameter.code} has not")
    parts = [unescape(p) for p in split(value, "|")]
    if len(parts) != 3 or not parts[1] or not parts[2]:
        raise invalid(f"{value!r}: of-type needs system|code|value")
    wanted_system, wanted_code, wanted = parts
    forms = set(tokens(wanted))

    def check(resource: Resource) -> bool:
        return any(
            kind == "Identifier"
            and bool(forms.intersection(tokens(v.get("value", ""))))
            and any(
                c.get("code") == wanted_code and wanted_system in ("", c.get("system"))
                for c in v.get("type", {}).get("coding", ())
            )
            for kind, v in values(resource, parameter)
        )

    candidates = some(starting(f"{key}{form}|") for key in parameter.keys for form in forms)
    return every((candidates, Body(check, f"{parameter.code} of type {wanted_system}|{wanted_code}")))


def text_of(parameter: Parameter, value: str, around: Around) -> Clause:
    """`:text`: the words of the concept's text, a coding's display or an identifier type's text begin with it."""
    text = loose(unescape(value))
    if not text:
        raise invalid("A text to search for must not be empty")

    def check(resource: Resource) -> bool:
        return any(starts_within(loose(t), text) for kind, v in values(resource, parameter) for t in texts_of(kind, v))

    return every((some(starting(key) for key in parameter.keys), Body(check, f"{parameter.code} text {text!r}")))


def starts_within(field: str, text: str) -> bool:
    """Whether the field, or something in it that starts at a word, begins with the text."""
    return field.startswith(text) or f" {text}" in field


def texts_of(kind: str, value: Any) -> Iterator[str]:
    """What a person reads in a coded value."""
    if kind == "Identifier":
        kind, value = "CodeableConcept", value.get("type", {})
    if kind == "CodeableConcept":
        yield value.get("text", "")
        yield from (c.get("display", "") for c in value.get("coding", ()))
    elif kind in ("Coding", "Reference"):
        yield value.get("display", "")
    elif kind in ("string", "code"):
        yield value


def member(how: str, modifier: str = "") -> Any:
    """`:in`, `:below` and `:above`: codes that terminology knows."""

    def match(parameter: Parameter, value: str, around: Around) -> Clause:
        if not value:
            raise invalid(f"{parameter.code}:{how} needs a value")
        if how == "below" and any(value_set.startswith(MIME_TYPES) for _, _, value_set in parameter.bare):
            return _of_media(parameter, unescape(value))
        bare = tuple(
            (a.key, uri)
            for a in parameter.atoms
            for r in a.place.routes
            for uri in sorted(implied_systems(r.type, r.value_set))
        )
        named = unescape(value)
        here = local(named, around.base) if how == "in" else None
        named = "/".join(here[:2]) if here else named  # where a value set is: its url is found when the search runs
        return Coded(parameter.keys, how, named, bare, f"{parameter.code}:{modifier or how}")

    return match


def _of_media(parameter: Parameter, value: str) -> Clause:
    """`text/xml` with whatever parameters, `text` with whatever comes after its slash
    (http://hl7.org/fhir/R4/search.html#mimetype)."""
    text = code(value.removeprefix(f"{MEDIA}|"), "")
    ends = "|;" if "/" in text else "|/"
    return some(starting(f"{key}{text}{end}") for key in parameter.keys for end in ends)


def coded(clause: Coded, codes: Iterable[tuple[str, str]]) -> Clause:
    """The entries of (system, code) pairs that terminology named."""
    texts = coded_texts(clause, codes)
    return OneOf(texts) if texts else NEVER


def coded_texts(clause: Coded, codes: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """The same as texts in their order, each once."""
    found = {key + token(text, uri) for uri, text in codes for key in clause.keys}
    if clause.bare:
        found |= {f"{key}{code(text, '')}|" for uri, text in codes for key, implied in clause.bare if implied == uri}
    return tuple(sorted(found))


def not_in(parameter: Parameter, value: str, around: Around) -> Clause:
    """`:not-in`: no coding is in the value set."""
    return without(member("in", "not-in")(parameter, value, around))


EMIT = {
    "Coding": emit_coding,
    "CodeableConcept": emit_concept,
    "Identifier": emit_identifier,
    "ContactPoint": emit_identifier,
    "code": emit_text,
    "id": emit_text,
    "string": emit_text,
    "uri": emit_text,
    "boolean": emit_boolean,
    "flag:deceased": emit_deceased,
}
MATCH = {
    "": matches_token,
    "not": has_not,
    "text": text_of,
    "of-type": of_type,
    "in": member("in"),
    "not-in": not_in,
    "below": member("below"),
    "above": member("above"),
}
