"""The codes of a value set, from its compose: includes, imports, excludes (http://hl7.org/fhir/R4/valueset.html#compositions)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from profiles.outcome import FhirError
from terminology.concepts import Concept, Designation, Json
from terminology.faults import (
    list_names,
    missing_supplements,
    standing_of,
    unknown_for_expansion,
    vurl,
    wanted_supplements,
)
from terminology.filters import Selection, select
from terminology.hints import hinted
from terminology.listed import listed
from terminology.membership import ValueSets
from terminology.messages import refuse
from terminology.packed import Codes, PackedSystem
from terminology.systems import Resolved
from terminology.versions import canonical, more_detailed
from terminology.wording import tokens

Key = tuple[str, str | None, str]

# What an include has that neither lists codes nor imports value sets.
_PLAIN = frozenset(("system", "version", "filter"))
# A value set that is put together from more codes than these is not walked through for a page of it.
_MOST = 200_000


@dataclass(frozen=True, slots=True)
class Item:
    """One code of an expansion: where it comes from, and what its value set says of it."""

    key: Key
    resolved: Resolved | None
    entry: Json | None = None
    names: tuple[Designation, ...] = ()
    parent: Key | None = None

    def concept(self) -> Concept:
        """The concept; of a system that is not known, what the value set says."""
        code, entry = self.key[2], self.entry or {}
        if self.resolved is None:
            return Concept(
                code, entry.get("display"), designations=self.names[1:] if entry.get("display") else self.names
            )
        found = self.resolved.concept(code)
        return replace(found, designations=(*found.designations, *self.names)) if self.names else found


@dataclass(slots=True)
class Report:
    """What an expansion tells about itself: parameters in their order, and whether codes may be missing."""

    rows: dict[tuple[str, str], Json] = field(default_factory=dict)
    unclosed: bool = False

    def add(self, name: str, value: str) -> None:
        """Notes a uri once."""
        self.rows.setdefault((name, value), {"name": name, "valueUri": value})

    def standing(self, resource: Json, source: Json) -> None:
        """Notes a definition that should not be relied on."""
        word = standing_of(resource, source)
        if word:
            self.add(f"warning-{word}", vurl(resource))


class Composer:
    """Walks the compose of one value set; nested value sets get composers of their own."""

    def __init__(self, sets: ValueSets, value_set: Json, report: Report, path: tuple[str, ...] = ()) -> None:
        name = vurl(value_set)
        if name in path:
            way = ", ".join(path)
            raise refuse("VALUESET_CIRCULAR_REFERENCE", status=422, url=value_set.get("url", ""), vurl=name, path=way)
        self.sets = sets
        self.options = sets.options
        self.value_set = value_set
        self.report = report
        self.path = (*path, name)
        self.compose: Json = value_set.get("compose", {})
        self.supplements = wanted_supplements(value_set, sets.options)
        self._missing = set(self.supplements)

    @property
    def includes(self) -> list[Json]:
        """compose.include without the systems that the request excludes."""
        rows: list[Json] = self.compose.get("include", [])
        out = [canonical(r.get("system"), r.get("version")) for r in rows]
        unwanted = self.options.excluded_systems
        return [r for r, c in zip(rows, out, strict=True) if r.get("system") not in unwanted and c not in unwanted]

    @property
    def by_version(self) -> bool:
        """Whether one system is included in more than one version, so that codes carry theirs."""
        known: dict[str, set[str | None]] = {}
        for row in [*self.includes, *self.compose.get("exclude", ())]:
            if "system" in row:
                known.setdefault(row["system"], set()).add(row.get("version"))
        return any(len(versions) > 1 for versions in known.values())

    @property
    def nested(self) -> bool:
        """Whether the hierarchy of the system shows: no lists, imports or combined filters."""
        rows = [*self.includes, *self.compose.get("exclude", ())]
        return not any("valueSet" in r or "concept" in r or len(r.get("filter", ())) > 1 for r in rows)

    def items(self) -> Iterator[Item]:
        """The codes in order, each once."""
        if "compose" not in self.value_set:
            yield from self._of_expansion()
            return
        excluded = [self._excluder(i, row) for i, row in enumerate(self.compose.get("exclude", ()))]
        seen: set[Key] = set()
        for number, row in enumerate(self.includes):
            for item in self._included(number, row):
                if len(seen) > _MOST:
                    raise refuse("VALUESET_TOO_COSTLY", url=self.path[-1], size=f">{_MOST}")
                if item.key not in seen and not any(leaves_out(item) for leaves_out in excluded):
                    seen.add(item.key)
                    yield item
        if self._missing:
            raise missing_supplements(self._missing)

    def page(self, offset: int, count: int) -> tuple[list[Item], int] | None:
        """A page and the total without a walk through all codes, where there is one plain include; else None."""
        rows = self.includes
        if len(rows) != 1 or "exclude" in self.compose or not {*_PLAIN, "concept"} >= set(rows[0]):
            return None
        found = self.system(rows[0], whole="concept" not in rows[0])
        if "concept" in rows[0]:
            entries = list(self._entries(rows[0], found, "ValueSet.compose.include[0]"))
            items = [self._item(rows[0], found, entry, code) for entry, code in entries[offset : offset + count]]
            return None if self._missing else (items, len(entries))
        assert found is not None
        self.refuse_incomplete(found, rows[0])
        codes = self.candidates(found, rows[0], "ValueSet.compose.include[0]")
        if self._missing or not isinstance(codes, Sequence) or self._usable(found) is not _every:
            return None
        shown = codes[offset : offset + count]
        return [Item((found.url, found.version, code), found) for code in shown], len(codes)

    def _included(self, number: int, row: Json) -> Iterator[Item]:
        place = f"ValueSet.compose.include[{number}]"
        others = [self._import(u) for u in row.get("valueSet", ())]
        if "system" not in row:
            yield from _intersection(others)
            return
        known = [{item.key[0::2] for item in other} for other in others]
        for item in self._of_system(row, place):
            if all(item.key[0::2] in keys for keys in known):
                yield item

    def _import(self, reference: str) -> list[Item]:
        found = self.import_of(reference)
        if not reference.startswith("#"):
            self.report.add("used-valueset", vurl(found))
        self.report.standing(found, self.value_set)
        return list(Composer(self.sets, found, self.report, self.path).items())

    def import_of(self, reference: str) -> Json:
        """A value set that this one includes."""
        try:
            return self.sets.imported(reference, self.value_set)
        except FhirError:
            url, _, version = reference.partition("|")
            version = self.options.version_for(url, version or None) or ""
            name = "VS_EXP_IMPORT_UNK_PINNED" if version else "VS_EXP_IMPORT_UNK"
            raise refuse(name, url=url, version=version) from None

    def system(self, row: Json, *, whole: bool) -> Resolved | None:
        """The system of an include; None where it is not known and the codes are listed one by one."""
        url, version = row["system"], row.get("version")
        found = self.sets.system(url, version, self.supplements)
        if found is None:
            if whole:
                missing = unknown_for_expansion(self.sets.library, url, self.options.version_for(url, version))
                raise hinted(missing, self.sets.library, "CodeSystem", url)
            return None
        self._check_version(found)
        self._note(found)
        return found

    def _check_version(self, found: Resolved) -> None:
        for rule in self.options.checks(found.url):
            if found.version != rule.version and not more_detailed(rule.version, found.version):
                version = found.version or ""
                raise refuse("VALUESET_VERSION_CHECK", system=found.url, version=version, wanted=rule.version)

    def _note(self, found: Resolved) -> None:
        self._missing -= {s for s in self._missing if self.sets.library.supplement(s, found.url)}
        self.report.add("used-codesystem", found.canonical)
        for supplement in found.supplements:
            self.report.add("used-supplement", Resolved(supplement).canonical)
        self.report.standing(found.system.about, self.value_set)

    def inner(self, reference: str) -> Composer:
        """The composer of a value set that this one includes."""
        return Composer(self.sets, self.import_of(reference), self.report, self.path)

    def codes(self, row: Json, place: str) -> Iterable[str]:
        """The codes that an include takes from its system."""
        found = self.system(row, whole="concept" not in row)
        if "concept" in row:
            return (code for _, code in self._entries(row, found, place))
        assert found is not None
        return self._drawn(found, row, place)

    def _drawn(self, found: Resolved, row: Json, place: str) -> Iterable[str]:
        self.refuse_incomplete(found, row)
        usable = self._usable(found)
        codes = self.candidates(found, row, place)
        return codes if usable is _every else filter(usable, codes)

    def _of_system(self, row: Json, place: str) -> Iterator[Item]:
        found = self.system(row, whole="concept" not in row)
        if "concept" in row:
            yield from self._listed(row, found, place)
            return
        assert found is not None
        nested = self.nested
        for code in self._drawn(found, row, place):
            yield Item((found.url, found.version, code), found, parent=_parent(found, code) if nested else None)

    def refuse_incomplete(self, found: Resolved, row: Json) -> None:
        """A fragment is refused where the caller will not have it; else the expansion is marked as not closed."""
        if found.content == "complete":
            return
        if self.options.incomplete_ok is False:
            raise refuse("CODESYSTEM_INCOMPLETE", status=422, system=found.url, content=found.content)
        self.report.unclosed = True

    def candidates(self, found: Resolved, row: Json, place: str) -> Iterable[str]:
        """The codes that pass the filters of an include and the text of the request."""
        selections = self._selections(found, row, place)
        text = self.options.filter
        if found.system.total() is None and not selections:
            return self._sample(found, text)
        first: Iterable[str] | None = found.system.search(text) if text else None
        if first is None:
            first = selections.pop(0).codes() if selections else found.system.codes()
        return first if not selections else _narrowed(first, selections)

    def _sample(self, found: Resolved, text: str | None) -> Iterable[str]:
        """Of a grammar only its well-known codes can be listed: the expansion is marked as not closed."""
        self.report.unclosed = True
        matched = found.system.search(text) if text else None
        return found.system.codes() if matched is None else matched

    def _selections(self, found: Resolved, row: Json, place: str) -> list[Selection]:
        rows = enumerate(row.get("filter", ()))
        return [select(found, f, f"{place}.filter[{i}]", self.value_set) for i, f in rows]

    def _usable(self, found: Resolved) -> Callable[[str], bool]:
        active = self.compose.get("inactive") is False or bool(self.options.active_only)
        if isinstance(found.system, PackedSystem):
            active = active and found.system.any_inactive
        selectable = bool(self.options.exclude_not_for_ui)
        if not (active or selectable):
            return _every
        return lambda code: (
            not ((active and found.system.inactive(code)) or (selectable and found.system.concept(code).abstract))
        )

    def _entries(self, row: Json, found: Resolved | None, place: str) -> Iterator[tuple[Json, str]]:
        """The listed concepts of an include that its system has and its filters pass, with their codes."""
        usable = self._usable(found) if found else _every
        allowed = self._selections(found, row, place) if found else []
        entries = listed(row, found.system if found else None)
        text = self.options.filter
        for code in entries.search(text) if text else entries.by_code:
            known = code not in entries.elsewhere
            if (usable(code) and all(s.holds(code) for s in allowed)) if known else not allowed:
                yield entries.by_code[code], code

    def _listed(self, row: Json, found: Resolved | None, place: str) -> Iterator[Item]:
        return (self._item(row, found, entry, code) for entry, code in self._entries(row, found, place))

    def _item(self, row: Json, found: Resolved | None, entry: Json, code: str) -> Item:
        version = found.version if found else row.get("version")
        known = found if found and found.system.locate(code) is not None else None
        return Item((row["system"], version, code), known, entry, tuple(list_names(entry, self.value_set)))

    def _named(self, item: Item) -> bool:
        text = self.options.filter
        return not text or text_matches(text, [item.key[2], *(n.value for n in item.concept().names())])

    def _excluder(self, number: int, row: Json) -> Callable[[Item], bool]:
        others = [self._import(u) for u in row.get("valueSet", ())]
        known = [{item.key[0::2] for item in other} for other in others]
        if "system" not in row:
            return lambda item: bool(known) and all(item.key[0::2] in keys for keys in known)
        found = self.system(row, whole="concept" not in row)
        place = f"ValueSet.compose.exclude[{number}]"
        holds = self._holds(row, found, place)
        version = found.version if found and row.get("version") else None

        def leaves_out(item: Item) -> bool:
            system, of_version, code = item.key
            if system != row["system"] or (version and of_version and of_version != version):
                return False
            return holds(code) and all((system, code) in keys for keys in known)

        return leaves_out

    def _holds(self, row: Json, found: Resolved | None, place: str) -> Callable[[str], bool]:
        if "concept" in row:
            given = [c.get("code", "") for c in row["concept"]]
            codes = {found.system.locate(c) if found else c for c in given}
            return codes.__contains__
        assert found is not None
        selections = self._selections(found, row, place)
        return lambda code: found.system.locate(code) is not None and all(s.holds(code) for s in selections)

    def _of_expansion(self) -> Iterator[Item]:
        """What a value set that is nothing but an expansion lists, each under the entry that it is in."""
        rows = reversed(self.value_set.get("expansion", {}).get("contains", ()))
        stack: list[tuple[Json, Key | None]] = [(entry, None) for entry in rows]
        while stack:
            entry, above = stack.pop()
            item = self._of_entry(entry, above)
            stack += [(inner, item.key if item else above) for inner in reversed(entry.get("contains", ()))]
            if item and self._named(item):
                yield item

    def _of_entry(self, entry: Json, above: Key | None) -> Item | None:
        system, version, code = entry.get("system", ""), entry.get("version"), entry.get("code")
        options = self.options
        if code is None or (options.exclude_not_for_ui and entry.get("abstract")):
            return None
        found = self.sets.system(system, version, self.supplements)
        known = found if found is not None and found.system.locate(code) is not None else None
        if options.active_only and (entry.get("inactive") or (known and known.system.inactive(code))):
            return None
        return Item((system, version, code), known, entry, tuple(list_names(entry, self.value_set)), above)


def _every(code: str) -> bool:
    return True


def _narrowed(codes: Iterable[str], selections: list[Selection]) -> Iterable[str]:
    """The codes that all selections hold; numbers of a packed system are compared without a look at the codes."""
    if isinstance(codes, Codes) and all(s.numbers is not None for s in selections):
        return Codes(codes.system, [n for n in codes.numbers if all(n in (s.numbers or ()) for s in selections)])
    return (c for c in codes if all(s.holds(c) for s in selections))


def _parent(found: Resolved, code: str) -> Key | None:
    above = next(iter(found.system.parents(code)), None)
    return None if above is None else (found.url, found.version, above)


def _intersection(others: list[list[Item]]) -> Iterator[Item]:
    if not others:
        return
    known = [{item.key[0::2] for item in other} for other in others[1:]]
    yield from (item for item in others[0] if all(item.key[0::2] in keys for keys in known))


def text_matches(text: str, names: list[str]) -> bool:
    """Whether every word of the text begins a word of the names."""
    known = {word for name in names for word in tokens(name)}
    return all(any(word.startswith(wanted) for word in known) for wanted in tokens(text))
