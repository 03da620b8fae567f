"""Whether a code is in a value set, and every reason why not (http://hl7.org/fhir/R4/valueset.html#compositions)."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from profiles.outcome import FhirError
from terminology.concepts import EXTENSION, STANDARDS_STATUS, Concept, Designation, Json, extension_value
from terminology.faults import (
    Asked,
    check_standing,
    check_version,
    list_names,
    missing_supplements,
    unknown_code,
    unknown_for_expansion,
    unknown_system,
    unknown_version,
    vurl,
    wanted_supplements,
)
from terminology.filters import Selection, select
from terminology.library import Library
from terminology.listed import listed
from terminology.messages import refuse
from terminology.request import Options
from terminology.systems import Resolved
from terminology.verdict import Noted, Verdict, under
from terminology.versions import canonical, more_detailed, split_canonical

# Checkers that hold more codes than these are made anew.
_LARGEST = 2_000


class MissingImport(FhirError):
    """An imported value set that is not known: a validation answers `false`, an expansion fails."""


@dataclass(slots=True)
class Found:
    """What a check learned of the code: the system it was looked up in, the concept, the names a value set adds."""

    system: Resolved | None = None
    concept: Concept | None = None
    extra: list[Designation] = field(default_factory=list)


class ValueSets:
    """The value sets of one request: prepared once each, cycles refused."""

    def __init__(self, library: Library, options: Options) -> None:
        self.library = library
        self.options = options
        self._prepared: dict[str, Checker] = {}

    def checker(self, value_set: Json, path: tuple[str, ...] = ()) -> Checker:
        """The checker of a value set, everything that it imports prepared."""
        name = vurl(value_set)
        if name in path:
            raise refuse(
                "VALUESET_CIRCULAR_REFERENCE",
                status=422,
                url=value_set.get("url", ""),
                vurl=name,
                path=", ".join(path),
            )
        made = self._prepared.get(name) if value_set.get("url") else None
        if made is None:
            made = Checker(self, value_set, (*path, name))
            self._prepared[name] = made
        return made

    def imported(self, reference: str, within: Json) -> Json:
        """A value set that another includes: contained (`#id`) or by its canonical, pinned by the version rules."""
        found: Json | None
        if reference.startswith("#"):
            found = next((r for r in within.get("contained", ()) if r.get("id") == reference[1:]), None)
        else:
            url, version = split_canonical(reference)
            version = self.options.version_for(url, version)
            found = self.library.value_set(url, version)
            reference = canonical(url, version)
        if found is None:
            missing = refuse("Unable_to_resolve_value_Set_", url=reference)
            raise MissingImport(missing.code, missing.text, issues=missing.issues)
        return found

    def system(self, url: str, version: str | None, wanted: tuple[str, ...]) -> Resolved | None:
        """A code system at the version that the rules allow, with the supplements wanted."""
        found = self.library.code_system(url, self.options.version_for(url, version))
        return self.library.resolved(found, wanted) if found else None


def checker_of(library: Library, options: Options, value_set: Json, name: Hashable) -> Checker:
    """The checker of a value set; where others will ask for the same by this name, the one that is there already.

    A checker holds its value set, so the `id` of one that the library keeps is a name too.
    """
    same = ("checker", name, options.decisive)
    made: Checker | None = library.known(same)
    if made is None:
        made = ValueSets(library, options).checker(value_set)
        # Rules on versions are of endless variety, and large sets would fill the memory.
        if library.lasting and not options.rules and not options.supplements and made.size <= _LARGEST:
            library.keep(same, made)
    return made


class Checker:
    """Checks codes against one value set."""

    def __init__(self, sets: ValueSets, value_set: Json, path: tuple[str, ...]) -> None:
        self.sets = sets
        self.value_set = value_set
        self.name = vurl(value_set)
        self.compose: Json = value_set.get("compose", {})
        self.supplements = wanted_supplements(value_set, sets.options)
        self._selections: dict[tuple[int, str, str | None], list[Selection]] = {}
        self._imports = [
            [sets.checker(sets.imported(u, value_set), path) for u in row.get("valueSet", ())] for row in self._rows()
        ]
        self._refuse_broken()

    @property
    def size(self) -> int:
        """How many codes it holds in memory, its imports included."""
        own = sum(selection.size for row in self._selections.values() for selection in row)
        return own + sum(checker.size for row in self._imports for checker in row)

    def _rows(self) -> list[Json]:
        return [*self.compose.get("include", ()), *self.compose.get("exclude", ())]

    def _refuse_broken(self) -> None:
        missing = set(self.supplements)
        for number, row in enumerate(self._rows()):
            system = self.sets.system(row["system"], row.get("version"), self.supplements) if "system" in row else None
            if system is not None:
                missing -= {s for s in self.supplements if self.sets.library.supplement(s, system.url)}
                self._filters(number, row, system)
        if missing:
            raise missing_supplements(missing)

    def _filters(self, number: int, row: Json, system: Resolved) -> list[Selection]:
        key = (number, system.url, system.version)
        if key not in self._selections:
            name = self._row_name(number)
            self._selections[key] = [
                select(system, f, f"ValueSet.compose.{name}.filter[{i}]", self.value_set)
                for i, f in enumerate(row.get("filter", ()))
            ]
        return self._selections[key]

    def _row_name(self, number: int) -> str:
        includes = len(self.compose.get("include", ()))
        return f"include[{number}]" if number < includes else f"exclude[{number - includes}]"

    @cached_property
    def _active_only(self) -> bool:
        return self.compose.get("inactive") is False

    def check(self, asked: Asked, verdict: Verdict, found: Found) -> bool | None:
        """True, False, or None where a code system that is needed is not known."""
        if "compose" not in self.value_set and "expansion" in self.value_set:
            return self._in_expansion(asked, verdict, found)
        result, said = self._any_include(asked, found)
        for trial in said:
            verdict.merge(trial)
        return result

    def _any_include(self, asked: Asked, found: Found) -> tuple[bool | None, list[Verdict]]:
        """The first include that has the code without a fault, else the first that has it, else what all say."""
        said: list[Verdict] = []
        faulty: Verdict | None = None
        for number, row in enumerate(self.compose.get("include", ())):
            trial = Verdict()
            result = self._included(number, row, asked, trial, found)
            if result and self._excluded(asked, found.system):
                result = False
            if result is None or (result and not trial.failed):
                return result, [*said, trial] if result is None else [trial]
            faulty = trial if result and faulty is None else faulty
            said.append(trial)
        return (True, [faulty]) if faulty else (False, said)

    def _included(self, number: int, row: Json, asked: Asked, verdict: Verdict, found: Found) -> bool | None:
        result: bool | None = True
        if "system" in row:
            result = asked.system == row["system"] and self._in_system(number, row, asked, verdict, found)
        for other in self._imports[number]:
            check_standing(verdict, "ValueSet", other.value_set, self.value_set)
            if result:
                result = other.check(asked, verdict, found)
        return result

    def _in_system(self, number: int, row: Json, asked: Asked, verdict: Verdict, found: Found) -> bool | None:
        version = self._version(row, asked, verdict)
        system = self.sets.system(row["system"], version, self.supplements)
        if system is None:
            return self._unknown_system(row["system"], version, asked, verdict)
        check_version(self.sets.options, system, asked.place, verdict)
        check_standing(verdict, "CodeSystem", system.system.about, self.value_set)
        found.system = system
        code = system.system.locate(asked.code)
        if code is None:
            return self._unknown_code(row, system, asked, verdict)
        if not self._selected(number, row, system, code):
            return False
        return self._usable(row, system, code, asked, verdict, found)

    def _version(self, row: Json, asked: Asked, verdict: Verdict) -> str | None:
        """The version of the system that decides, and what is wrong with the version given in the value."""
        options, library, url = self.sets.options, self.sets.library, row["system"]
        wanted = options.version_for(url, row.get("version"))
        given = asked.version
        if not given:
            return wanted
        if wanted and more_detailed(wanted, given):
            wanted = given
        if not wanted and any(v == given or more_detailed(given, v) for v in library.versions("CodeSystem", url)):
            wanted = given
        used = self.sets.system(url, wanted, ())
        if used is not None and used.version != given and not more_detailed(given, used.version):
            self._mismatch(row, wanted, used, asked, verdict)
        elif used is None and wanted != given:
            words = {"system": url, "version": wanted or "", "given": given}
            verdict.add("VALUESET_VALUE_MISMATCH", under(asked.place, "version"), **words)
        return wanted

    def _mismatch(self, row: Json, wanted: str | None, used: Resolved, asked: Asked, verdict: Verdict) -> None:
        place, words = under(asked.place, "version"), {"system": used.url, "given": asked.version}
        if not wanted:
            severity = "error" if used.system.about.get("versionNeeded") else "warning"
            verdict.add("VALUESET_VALUE_MISMATCH_DEFAULT", place, severity=severity, version=used.version, **words)
        elif wanted != row.get("version"):
            asked_for = row.get("version", "")
            verdict.add("VALUESET_VALUE_MISMATCH_CHANGED", place, version=wanted, asked=asked_for, **words)
        else:
            verdict.add("VALUESET_VALUE_MISMATCH", place, version=wanted, **words)
        if self.sets.library.code_system(used.url, asked.version) is None:
            unknown_version(self.sets.library, used.url, asked.version or "", asked.place, verdict)

    def _unknown_system(self, url: str, version: str | None, asked: Asked, verdict: Verdict) -> bool | None:
        if self.sets.options.membership_only:
            return False
        unknown_system(self.sets.library, url, version, asked.place, verdict)
        return None

    def _unknown_code(self, row: Json, system: Resolved, asked: Asked, verdict: Verdict) -> bool:
        if "filter" in row or ("concept" in row and asked.code not in listed(row, system.system).elsewhere):
            return False
        if not self.sets.options.membership_only:
            unknown_code(system, asked, verdict)
        return system.content != "complete"

    def _selected(self, number: int, row: Json, system: Resolved, code: str) -> bool:
        if "concept" in row and code not in listed(row, system.system).by_code:
            return False
        return all(s.holds(code) for s in self._filters(number, row, system))

    def _usable(self, row: Json, system: Resolved, code: str, asked: Asked, verdict: Verdict, found: Found) -> bool:
        found.concept = concept = system.concept(code)
        place, options = under(asked.place, "code"), self.sets.options
        if concept.abstract and not options.abstract_ok:
            verdict.add("ABSTRACT_CODE_NOT_ALLOWED", place, system=system.url, code=code)
            return False
        normal = code if code != asked.code else None
        verdict.noted[asked.place] = Noted(asked.code, concept.status, concept.inactive, normal)
        if concept.inactive and (self._active_only or options.active_only):
            verdict.add("STATUS_CODE_WARNING_CODE", place, code=asked.code)
            return False
        if normal:
            words = {"code": asked.code, "correct": code, "system": system.canonical}
            verdict.add("CODE_CASE_DIFFERENCE", place, **words)
        self._listed(row, code, system, place, verdict, found)
        return True

    def _listed(self, row: Json, code: str, system: Resolved, place: str, verdict: Verdict, found: Found) -> None:
        entry = listed(row, system.system).by_code.get(code) if "concept" in row else None
        if entry is None:
            return
        found.extra += list_names(entry, self.value_set)
        extensions = entry.get("extension", ())
        status = extension_value(extensions, STANDARDS_STATUS)
        if status not in ("withdrawn", "deprecated"):
            status = "deprecated" if extension_value(extensions, EXTENSION + "valueset-deprecated") else None
        if status:
            words = {"code": code, "system": system.url, "url": self.name, "status": status}
            verdict.add("CONCEPT_DEPRECATED_IN_VALUESET", place, **words)

    def _excluded(self, asked: Asked, used: Resolved | None) -> bool:
        """Whether the code is taken out again, as one of the version that it was found in."""
        start = len(self.compose.get("include", ()))
        rows = enumerate(self.compose.get("exclude", ()), start)
        return any(self._excludes(number, row, asked, used) for number, row in rows)

    def _excludes(self, number: int, row: Json, asked: Asked, used: Resolved | None) -> bool:
        return self._plainly_in(number, row, asked, used) and all(
            other.check(asked, Verdict(), Found()) for other in self._imports[number]
        )

    def _plainly_in(self, number: int, row: Json, asked: Asked, used: Resolved | None) -> bool:
        if "system" not in row:
            return True
        if row["system"] != asked.system:
            return False
        system = self.sets.system(row["system"], row.get("version"), self.supplements)
        if system is None:
            raise unknown_for_expansion(self.sets.library, row["system"], row.get("version"))
        if row.get("version") and used is not None and used.version and system.version != used.version:
            return False
        code = system.system.locate(asked.code)
        return code is not None and self._selected(number, row, system, code)

    def _in_expansion(self, asked: Asked, verdict: Verdict, found: Found) -> bool | None:
        entry, options = self._expanded.get((asked.system, asked.code)), self.sets.options
        if entry is None or (asked.version and entry.get("version") and entry["version"] != asked.version):
            return False
        found.system = self.sets.system(asked.system or "", asked.version or entry.get("version"), self.supplements)
        if found.system is None and asked.version and self.sets.library.knows("CodeSystem", asked.system or ""):
            unknown_version(self.sets.library, asked.system or "", asked.version, asked.place, verdict)
            return None
        code = found.system.system.locate(asked.code) if found.system else None
        inactive, status = bool(entry.get("inactive")), None
        if found.system and code is not None:
            found.concept = found.system.concept(code)
            inactive, status = inactive or found.concept.inactive, found.concept.status
        found.extra += list_names(entry, self.value_set)
        verdict.noted[asked.place] = Noted(asked.code, status, inactive)
        place = under(asked.place, "code")
        if entry.get("abstract") and not options.abstract_ok:
            verdict.add("ABSTRACT_CODE_NOT_ALLOWED", place, system=asked.system, code=asked.code)
        elif inactive and options.active_only:
            verdict.add("STATUS_CODE_WARNING_CODE", place, code=asked.code)
        else:
            return True
        return False

    @cached_property
    def _expanded(self) -> dict[tuple[str | None, str], Json]:
        stack, known = list(self.value_set["expansion"].get("contains", ())), {}
        while stack:
            entry = stack.pop()
            known[entry.get("system"), entry.get("code", "")] = entry
            stack += entry.get("contains", ())
        return known

    def systems_of(self, code: str) -> list[str]:
        """The systems of the value set that know the code, for a request that names none."""
        return [
            s for s in dict.fromkeys(self._systems(code)) if self.check(Asked("", s, None, code), Verdict(), Found())
        ]

    def _systems(self, code: str) -> Iterator[str]:
        if "compose" not in self.value_set and "expansion" in self.value_set:
            yield from (system for system, known in self._expanded if known == code and system)
        for number, row in enumerate(self.compose.get("include", ())):
            if "system" in row:
                yield row["system"]
            elif self._imports[number]:
                yield from self._imports[number][0].systems_of(code)
