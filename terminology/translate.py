"""ConceptMap/$translate, in R4's words or R5's, from either end (http://hl7.org/fhir/R4/conceptmap-operation-translate.html)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from profiles.outcome import FhirError
from terminology.concepts import Json, text_of, value_of
from terminology.hints import hinted
from terminology.library import Library
from terminology.maps import NO_MATCH, RELATIONSHIP, End, Link, Map, StoredMap, Unmapped
from terminology.request import Parameters, answer, parameter
from terminology.versions import canonical, matches, split_canonical

# A translation through other maps stops here.
_LONGEST_CHAIN = 3


@dataclass(frozen=True, slots=True)
class _Question:
    """What is to be translated; `reverse` where the code is a target, `later` where R5's parameter names were used."""

    codings: tuple[Json, ...]
    source_system: str | None
    target_system: str | None
    source_scope: str | None
    target_scope: str | None
    dependencies: tuple[tuple[str, str], ...]
    reverse: bool
    later: bool


def translate(library: Library, parameters: Parameters, concept_map: Json | None = None) -> Json:
    """Every match of every map that applies; `concept_map` is the resource of an instance."""
    question = _question(parameters)
    maps = _maps(library, parameters, concept_map, question)
    links = [link for coding in question.codings for link in _translated(library, maps, coding, question)]
    if not links and not _named(parameters, concept_map):
        links = [link for coding in question.codings for link in _chained(library, coding, question)]
    unique = list(dict.fromkeys(_key(link) for link in links))
    first = {_key(link): link for link in reversed(links)}
    good = any(link.equivalence not in NO_MATCH for link in links)
    message = None if good else _why(library, maps, question)
    matched = [_match(first[k], question) for k in unique]
    return answer(parameter("result", good), parameter("message", message), *matched)


def _key(link: Link) -> tuple[str | None, ...]:
    return (link.source.code, link.target.system, link.target.code, link.equivalence, link.map, str(link.product))


def _question(parameters: Parameters) -> _Question:
    later = any(
        parameters.first(f"{side}{kind}") is not None
        for side in ("source", "target")
        for kind in ("Code", "Coding", "CodeableConcept")
    )
    reverse = bool(parameters.flag("reverse"))
    codings = _given(parameters, "", "system")
    if later:
        codings = _given(parameters, "source", "sourceSystem")
        if not codings:
            reverse, codings = True, _given(parameters, "target", "targetSystem")
    if not codings:
        raise FhirError("required", "A code is needed: 'code' and 'system', 'coding' or 'codeableConcept'", status=400)
    return _Question(
        codings,
        parameters.text("sourceSystem"),
        parameters.text("targetSystem", "targetsystem"),
        parameters.text("sourceScope", "source"),
        parameters.text("targetScope", "target"),
        tuple(_dependencies(parameters)),
        reverse,
        later,
    )


def _given(parameters: Parameters, side: str, system_name: str) -> tuple[Json, ...]:
    def name(kind: str) -> str:
        return f"{side}{kind}" if side else kind[0].lower() + kind[1:]

    concept = parameters.complex(name("CodeableConcept"))
    if concept is not None:
        return tuple(c for c in concept.get("coding", ()) if c.get("code"))
    coding = parameters.complex(name("Coding"))
    if coding is not None:
        return (coding,)
    code = parameters.text(name("Code"))
    if code is None:
        return ()
    row = {"system": parameters.text(system_name, "system"), "version": parameters.text("version"), "code": code}
    return ({k: v for k, v in row.items() if v is not None},)


def _dependencies(parameters: Parameters) -> Iterator[tuple[str, str]]:
    for parts in parameters.parts("dependency"):
        element, value = parts.text("element", "attribute"), parts.first("concept", "value")
        if element is not None and value is not None:
            yield (
                element,
                text_of(value.get("coding", [{}])[0] if isinstance(value, dict) and "coding" in value else value),
            )


def _named(parameters: Parameters, concept_map: Json | None) -> bool:
    return concept_map is not None or any(parameters.first(n) is not None for n in ("url", "conceptMap"))


def _maps(library: Library, parameters: Parameters, concept_map: Json | None, question: _Question) -> list[Map]:
    given = concept_map or parameters.complex("conceptMap")
    if given is not None:
        return [StoredMap(given)]
    url = parameters.text("url")
    if url:
        found = library.concept_map(url, parameters.text("conceptMapVersion"))
        if found is None:
            missing = FhirError("not-found", f"A definition for the ConceptMap '{url}' could not be found")
            raise hinted(missing, library, "ConceptMap", url)
        return [found]
    return [m for m in library.maps() if _applies(m, question)]


def _applies(candidate: Map, question: _Question) -> bool:
    about = candidate.about
    source = (
        about.get("sourceUri")
        or about.get("sourceCanonical")
        or about.get("sourceScopeUri")
        or about.get("sourceScopeCanonical")
    )
    target = (
        about.get("targetUri")
        or about.get("targetCanonical")
        or about.get("targetScopeUri")
        or about.get("targetScopeCanonical")
    )
    if question.reverse:
        source, target = target, source
    return _same(question.source_scope, source) and _same(question.target_scope, target)


def _same(wanted: str | None, actual: str | None) -> bool:
    if wanted is None:
        return True
    (url, version), (other, other_version) = split_canonical(wanted), split_canonical(actual or "")
    return url == other and (version is None or other_version is None or matches(version, other_version))


def _translated(library: Library, maps: Iterable[Map], coding: Json, question: _Question) -> Iterator[Link]:
    for found in maps:
        links = list(_links(found, coding, question))
        yield from links
        if not links and not question.reverse:
            yield from _unmapped(library, found, coding, question, (canonical(found.about.get("url"), None),))


def _links(found: Map, coding: Json, question: _Question) -> Iterator[Link]:
    system, code = coding.get("system"), str(coding.get("code", ""))
    for link in found.backward(system, code) if question.reverse else found.forward(system, code):
        if _wanted(link, question) and _depends(link, question):
            yield link


def _wanted(link: Link, question: _Question) -> bool:
    to = link.source if question.reverse and not question.later else link.target
    from_ = link.target if question.reverse and not question.later else link.source
    source_fits = question.source_system is None or from_.system in (None, question.source_system)
    return source_fits and (question.target_system is None or to.system in (None, question.target_system))


def _depends(link: Link, question: _Question) -> bool:
    """A mapping that depends on something holds only where that was given (http://hl7.org/fhir/R4/conceptmap.html)."""
    known = set(question.dependencies)
    return all(
        (d.get("property") or d.get("attribute") or "", str(d.get("value", text_of(value_of(d)[1])))) in known
        for d in link.depends_on
    )


def _unmapped(library: Library, found: Map, coding: Json, question: _Question, path: tuple[str, ...]) -> Iterator[Link]:
    for rule in found.unmapped(coding.get("system")):
        if question.target_system not in (None, rule.target) and rule.mode != "other-map":
            continue
        if rule.mode == "other-map":
            yield from _other_map(library, rule, coding, question, path)
        else:
            yield _fallback(found, rule, coding)


def _fallback(found: Map, rule: Unmapped, coding: Json) -> Link:
    source = End(coding.get("system") or rule.source, None, coding.get("code"))
    name = canonical(found.about.get("url"), found.about.get("version"))
    if rule.mode == "provided":
        return Link(source, End(rule.target, None, coding.get("code"), coding.get("display")), "equal", map=name)
    return Link(source, End(rule.target, None, rule.code, rule.display), rule.equivalence, map=name)


def _other_map(
    library: Library, rule: Unmapped, coding: Json, question: _Question, path: tuple[str, ...]
) -> Iterator[Link]:
    url = split_canonical(rule.other or "")[0]
    if url in path:
        raise FhirError("processing", f"The concept maps refer to each other in a circle: {', '.join((*path, url))}")
    other = library.concept_map(rule.other or "")
    if other is None:
        raise FhirError(
            "not-found", f"The ConceptMap '{rule.other}' for codes that are not mapped could not be found", status=422
        )
    links = list(_links(other, coding, question))
    yield from links or _unmapped(library, other, coding, question, (*path, url))


def _chained(library: Library, coding: Json, question: _Question) -> Iterator[Link]:
    """Through a second and a third map, where no single one leads to the target system asked for."""
    if question.target_system is None or question.reverse:
        return
    maps, step = list(library.maps()), replace(question, target_system=None)
    ways: list[Link] = [link for m in maps for link in _links(m, coding, step)]
    seen = {coding.get("system")}
    for _ in range(_LONGEST_CHAIN - 1):
        good = [w for w in ways if w.target.code and w.equivalence not in NO_MATCH and w.target.system not in seen]
        seen |= {w.target.system for w in good}
        ways = [_joined(way, link) for way in good for m in maps for link in _links(m, way.target.coding(), step)]
        arrived = [w for w in ways if w.target.system == question.target_system]
        if arrived:
            yield from arrived
            return


def _joined(first: Link, second: Link) -> Link:
    """Two links as one: what they say together, and `relatedto` where they say different things."""
    plain = {"equal", "equivalent"}
    if first.equivalence in plain:
        equivalence = second.equivalence if second.equivalence != "equal" else "equivalent"
    elif second.equivalence in plain or second.equivalence == first.equivalence:
        equivalence = first.equivalence
    else:
        equivalence = "relatedto"
    return replace(second, source=first.source, equivalence=equivalence)


def _why(library: Library, maps: list[Map], question: _Question) -> str:
    codes = ", ".join(canonical(c.get("system"), None) + "#" + str(c.get("code", "")) for c in question.codings)
    if not maps:
        known = sorted({str(m.about.get("url")) for m in library.maps()})[:20]
        return f"No concept map applies to {codes}; known are {', '.join(known) or 'none'}"
    return f"No mapping was found for {codes}"


def _match(link: Link, question: _Question) -> Json:
    shown = link.reversed() if question.reverse and not question.later else link
    concept = End(shown.target.system, shown.target.version, shown.target.code, shown.target.display)
    parts = [parameter("equivalence", shown.equivalence, "Code")]
    if concept.code is not None:
        parts.append(parameter("concept", concept.coding(), "Coding"))
    parts += [_product(p) for p in link.product]
    if question.later:
        parts.append(parameter("relationship", RELATIONSHIP.get(shown.equivalence, "related-to"), "Code"))
        parts.append(parameter("originMap", link.map or None, "Canonical"))
        if question.reverse:
            parts.append(parameter("source", link.source.coding(), "Coding"))
    else:
        parts.append(parameter("source", link.map or None, "Uri"))
    return {"name": "match", "part": [p for p in parts if p]}


def _product(row: Json) -> Json:
    value = {"system": row.get("system"), "code": row.get("value"), "display": row.get("display")}
    parts = [
        parameter("element", row.get("property") or row.get("attribute"), "Uri"),
        parameter("concept", {k: v for k, v in value.items() if v is not None}, "Coding"),
    ]
    return {"name": "product", "part": [p for p in parts if p]}
