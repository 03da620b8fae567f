"""ValueSet/$expand (http://hl7.org/fhir/R4/valueset-operation-expand.html)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from profiles.outcome import FhirError, Issue
from terminology.compose import Composer, Item, Key, Report
from terminology.concepts import CONCEPT_PROPERTIES, EXTENSION, STANDARDS_STATUS, Concept, Designation, Json, value_of
from terminology.filters import refuse_unknown_properties
from terminology.languages import Languages, near, preferred
from terminology.library import Library
from terminology.membership import ValueSets
from terminology.messages import refuse
from terminology.packed import PackedSystem
from terminology.request import Options, Parameters, options_of
from terminology.validate import value_set_of
from terminology.versions import canonical

# What a server may be made to list at once without paging; the ecosystem's servers refuse more than that.
LIMIT = 1000
_R5 = "http://hl7.org/fhir/5.0/StructureDefinition/extension-ValueSet."
_UNCLOSED = EXTENSION + "valueset-unclosed"
_TOO_COSTLY = EXTENSION + "valueset-toocostly"
# What belongs to the definition of a value set and is shown with includeDefinition only.
_DEFINITION = frozenset(
    ("compose", "contained", "extension", "text", "purpose", "description", "contact", "copyright", "publisher")
)
_ALWAYS_DROPPED = frozenset(("id", "meta", "expansion", "text"))


@dataclass(frozen=True, slots=True)
class Clock:
    """What an expansion needs from outside: the time, and a new uuid."""

    now: datetime
    uuid: str


# For what does not tell the time.
NO_CLOCK = Clock(datetime.fromtimestamp(0, UTC), "")


def expand(
    library: Library, parameters: Parameters, clock: Clock, header: str | None = None, value_set: Json | None = None
) -> Json:
    """The expansion of a value set; `value_set` is the resource of an instance."""
    options = options_of(parameters, header)
    found = value_set if value_set is not None else value_set_of(library, parameters, options)
    options = options.seeing(found)
    return expansion(ValueSets(library, options), found, clock)


def expansion(sets: ValueSets, value_set: Json, clock: Clock) -> Json:
    """The value set with its expansion."""
    options, report = sets.options, Report()
    report.standing(value_set, value_set)
    composer = Composer(sets, value_set, report)
    items, total = _page(composer, value_set, options)
    shown = {id(item.resolved): item.resolved for item in items} if options.properties else {}
    refuse_unknown_properties([r for r in shown.values() if r], options.properties)
    writer = _Writer(options, composer.by_version)
    contains = _nest(items, writer) if _nesting(composer, options) else [writer.row(item) for item in items]
    return _head(value_set, options) | {"expansion": _expansion(report, options, writer, contains, total, clock)}


def _page(composer: Composer, value_set: Json, options: Options) -> tuple[Sequence[Item], int]:
    """The items to show, and how many there are in all."""
    offset, count = options.offset or 0, options.count
    if count is None and options.offset is None and not options.limited:
        items = list(_limited(composer, value_set))
        return items, len(items)
    limit = LIMIT if count is None else count
    quick = composer.page(offset, limit)
    if quick is not None:
        return quick
    every = list(composer.items())
    return every[offset : offset + limit], len(every)


def _limited(composer: Composer, value_set: Json) -> Iterable[Item]:
    """The items; too many are refused, of an open set the first are a sample."""
    for number, item in enumerate(composer.items()):
        if number == LIMIT and composer.report.unclosed:
            return
        if number == LIMIT:
            url = canonical(value_set.get("url"), value_set.get("version"))
            refused = refuse("VALUESET_TOO_COSTLY", url=url, size=f">{LIMIT}")
            hint = "Ask for a page with 'count' and 'offset', or narrow it with 'filter'"
            raise FhirError.of([*refused.issues, _hint(hint)], status=refused.status)
        yield item


def _hint(text: str) -> Issue:
    return Issue("information", "informational", text, aside=True)


def _nesting(composer: Composer, options: Options) -> bool:
    return composer.nested and not (options.exclude_nested or options.offset or options.count or options.filter)


def _nest(items: Sequence[Item], writer: _Writer) -> list[Json]:
    """Each code under its parent, where that is shown before it."""
    placed: dict[Key, Json] = {}
    roots: list[Json] = []
    for item in items:
        row = placed[item.key] = writer.row(item)
        parent = placed.get(item.parent) if item.parent else None
        (roots if parent is None else parent.setdefault("contains", [])).append(row)
    return roots


def _head(value_set: Json, options: Options) -> Json:
    dropped = _ALWAYS_DROPPED if options.include_definition else _DEFINITION | _ALWAYS_DROPPED
    return {k: v for k, v in value_set.items() if k not in dropped}


def _expansion(
    report: Report, options: Options, writer: _Writer, contains: list[Json], total: int, clock: Clock
) -> Json:
    extensions = [{"url": _UNCLOSED, "valueBoolean": True}] if report.unclosed else []
    extensions += [
        _property_extension("expansion.property", code, "uri", "valueUri", uri) for code, uri in writer.declared.items()
    ]
    made: Json = {"extension": extensions} if extensions else {}
    made |= {"identifier": f"urn:uuid:{clock.uuid}", "timestamp": _instant(clock.now)}
    if not report.unclosed:
        made["total"] = total
    if options.offset is not None:
        made["offset"] = options.offset
    made["parameter"] = [*_asked(options), *report.rows.values(), *(rule.parameter() for rule in options.used_rules)]
    return made | ({"contains": contains} if contains else {})


def _instant(now: datetime) -> str:
    return now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _asked(options: Options) -> list[Json]:
    flags = {
        "activeOnly": options.active_only,
        "excludeNested": options.exclude_nested,
        "includeDesignations": options.include_designations,
        "includeDefinition": options.include_definition,
        "excludeNotForUI": options.exclude_not_for_ui,
        "excludePostCoordinated": options.exclude_post_coordinated,
        "limitedExpansion": options.limited,
    }
    rows: list[Json] = [{"name": name, "valueBoolean": flag} for name, flag in flags.items() if flag is not None]
    if options.filter:
        rows.append({"name": "filter", "valueString": options.filter})
    if options.working:
        rows.append({"name": "displayLanguage", "valueCode": options.working.text})
    rows += [{"name": "designation", "valueString": d} for d in options.designations]
    rows += [{"name": "exclude-system", "valueUri": s} for s in options.excluded_systems]
    counts = {"count": options.count, "offset": options.offset}
    return rows + [{"name": name, "valueInteger": n} for name, n in counts.items() if n is not None]


def _property_extension(where: str, code: str, name: str, kind: str, value: Any) -> Json:
    """A property in the form that R4 has for what R5 added (http://hl7.org/fhir/R5/versions.html#extensions)."""
    return {"url": _R5 + where, "extension": [{"url": "code", "valueCode": code}, {"url": name, kind: value}]}


# Extension of a concept -> the property that an expansion shows it as: code, uri, JSON name of the value.
_SHOWN = {
    EXTENSION + "codesystem-label": ("label", "label", "valueString"),
    EXTENSION + "valueset-label": ("label", "label", "valueString"),
    EXTENSION + "codesystem-conceptOrder": ("order", "order", "valueDecimal"),
    EXTENSION + "valueset-conceptOrder": ("order", "order", "valueDecimal"),
    EXTENSION + "itemWeight": ("weight", "itemWeight", "valueDecimal"),
}
_KEPT = frozenset(
    EXTENSION + name for name in ("coding-sctdescid", "rendering-style", "rendering-xhtml", "codesystem-alternate")
)
_KEPT_OF_SET = (
    _KEPT
    | {EXTENSION + name for name in ("valueset-supplement", "valueset-deprecated", "valueset-concept-definition")}
    | {STANDARDS_STATUS}
)


class _Writer:
    """Writes the entries of an expansion, and remembers which properties they use."""

    def __init__(self, options: Options, by_version: bool) -> None:
        self.options = options
        self.by_version = by_version
        self.declared: dict[str, str] = {}

    def row(self, item: Item) -> Json:
        """One entry of ValueSet.expansion.contains."""
        plain = self._plain(item)
        if plain is not None:
            return plain
        concept, (system, version, code) = item.concept(), item.key
        entry = item.entry or {}
        row: Json = {}
        extensions = self._extensions(concept, entry) + self._properties(concept, entry, item)
        if extensions:
            row["extension"] = extensions
        row["system"] = system
        if concept.abstract or entry.get("abstract"):
            row["abstract"] = True
        if concept.inactive or entry.get("inactive"):
            row["inactive"] = True
        if version and (self.by_version or entry.get("version")):
            row["version"] = version
        row["code"] = code
        return row | self._names(concept, item)

    def _plain(self, item: Item) -> Json | None:
        """The entry of a packed concept of which nothing but the display is to be shown: a page of 1,000 in 5 ms."""
        found, options = item.resolved, self.options
        if self.by_version or found is None or found.supplements or item.entry or options.properties:
            return None
        system = found.system
        if options.include_designations or not isinstance(system, PackedSystem):
            return None
        if options.working and not near(
            options.working.asked[0] if options.working.asked else "", found.language or ""
        ):
            return None
        number = system.number(item.key[2])
        if number is None or system.flags(number):
            return None
        return {"system": item.key[0], "code": item.key[2], "display": system.display(number)}

    def _names(self, concept: Concept, item: Item) -> Json:
        names = list(concept.names())
        chosen = _own(item, self.options.working) or preferred(names, concept.display, self.options.working)
        row: Json = {"display": chosen.value} if chosen else {}
        if self.options.include_designations:
            others = [n.resource() for n in names if n != chosen and self._wanted(n)]
            return row | ({"designation": others} if others else {})
        return row

    def _wanted(self, name: Designation) -> bool:
        if not self.options.designations:
            return True
        use = name.use or {}
        tokens = {f"urn:ietf:bcp:47|{name.language}", f"{use.get('system', '')}|{use.get('code', '')}"}
        return not tokens.isdisjoint(self.options.designations)

    def _extensions(self, concept: Concept, entry: Json) -> list[Json]:
        kept = [e for e in concept.extension if e.get("url") in _KEPT]
        own = [e for e in entry.get("extension", ()) if e.get("url") in _KEPT_OF_SET]
        replaced = {e.get("url") for e in own}
        return [e for e in kept if e.get("url") not in replaced] + own

    def _properties(self, concept: Concept, entry: Json, item: Item) -> list[Json]:
        found: dict[tuple[str, Any], Json] = {}
        if concept.status and concept.status.lower() != "active":
            found["status", 0] = self._property("status", CONCEPT_PROPERTIES + "status", "valueCode", concept.status)
        for extension in [*concept.extension, *entry.get("extension", ())]:
            shown = _SHOWN.get(extension.get("url", ""))
            if shown:
                code, uri, kind = shown
                found[code, 0] = self._property(code, CONCEPT_PROPERTIES + uri, kind, value_of(extension)[1])
        for place, wanted in enumerate(self.options.properties):
            found |= {(wanted, (place, i)): row for i, row in enumerate(self._asked(wanted, concept, item))}
        return list(found.values())

    def _asked(self, wanted: str, concept: Concept, item: Item) -> Iterable[Json]:
        if wanted == "definition" and concept.definition:
            yield self._property("definition", CONCEPT_PROPERTIES + "definition", "valueString", concept.definition)
        for row in concept.properties:
            kind, value = value_of(row)
            if row.get("code") == wanted and kind:
                yield self._property(wanted, _uri(item, wanted), kind, value)
        if wanted in ("parent", "child") and item.resolved:
            system = item.resolved.system
            for code in (system.parents if wanted == "parent" else system.children)(concept.code):
                yield self._property(wanted, CONCEPT_PROPERTIES + wanted, "valueCode", code)

    def _property(self, code: str, uri: str, kind: str, value: Any) -> Json:
        self.declared.setdefault(code, uri)
        return _property_extension("expansion.contains.property", code, "value", kind, value)


def _own(item: Item, languages: Languages) -> Designation | None:
    """The display that the value set itself gives a code, where its language suits."""
    if item.entry is None or not item.entry.get("display") or not item.names:
        return None
    own = item.names[0]
    return own if not languages.asked or (own.language and languages.accept(own.language)) else None


def _uri(item: Item, code: str) -> str:
    declared = item.resolved.properties() if item.resolved else ()
    return str(next((p["uri"] for p in declared if p.get("code") == code and "uri" in p), CONCEPT_PROPERTIES + code))
