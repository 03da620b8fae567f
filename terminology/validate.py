"""$validate-code of CodeSystem and ValueSet (http://hl7.org/fhir/R4/valueset-operation-validate-code.html)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from profiles import model
from profiles.outcome import FhirError, operation_outcome
from terminology.concepts import Json
from terminology.displays import Names, check_display
from terminology.faults import Asked, check_standing, check_version, unknown_code, unknown_system
from terminology.hints import hinted
from terminology.languages import display_of
from terminology.library import Library
from terminology.membership import Checker, Found, MissingImport, ValueSets, checker_of
from terminology.messages import refuse
from terminology.request import Options, Parameters, answer, of_resource, options_of, parameter
from terminology.systems import Resolved
from terminology.verdict import Noted, Verdict, under

_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_NOTHING_TO_CHECK = (
    "Unable to find code to validate "
    "(looked for coding | codeableConcept | code+system | code+inferSystem in parameters"
)


@dataclass(frozen=True, slots=True)
class Coded:
    """What is to be validated: `mode` is code, coding or codeableConcept, `codings` what it holds."""

    mode: str
    codings: tuple[Json, ...]
    concept: Json | None = None

    def place(self, number: int) -> str:
        """Where a coding is in the request."""
        return {"code": "", "coding": "Coding"}.get(self.mode, f"CodeableConcept.coding[{number}]")


def validate_value_set(
    library: Library, parameters: Parameters, header: str | None = None, value_set: Json | None = None
) -> Json:
    """ValueSet/$validate-code; `value_set` is the resource of an instance."""
    options = options_of(parameters, header)
    coded = _coded(parameters, "systemVersion", options)
    found = value_set_of(library, parameters, options) if value_set is None else value_set
    options = options.seeing(found)
    try:
        own = value_set is not None or "valueSet" in parameters.names
        checker = ValueSets(library, options).checker(found) if own else checker_of(library, options, found, id(found))
    except MissingImport as missing:
        return _unresolved(coded, missing)
    return _Validation(checker, coded, options, internal=False).answer()


def validate_code_system(
    library: Library, parameters: Parameters, header: str | None = None, code_system: Json | None = None
) -> Json:
    """CodeSystem/$validate-code; `code_system` is the resource of an instance."""
    options = options_of(parameters, header)
    given = code_system or parameters.complex("codeSystem")
    if given is not None:
        library = library.under([given])
    url = given.get("url") if given else parameters.text("url", "system")
    coded = _coded(parameters, "version", options, url or "")
    includes = {(_system_of(c, url), None if coded.mode == "code" else c.get("version")) for c in coded.codings}
    rows = [
        {"system": system, "version": version} if version else {"system": system}
        for system, version in includes
        if system
    ]
    for row in rows:
        supplement = library.system(row["system"])
        if supplement is not None and supplement.about.get("content") == "supplement":
            return _supplement_refused(coded, supplement.about)
    version = given.get("version") if given else parameters.text("version")
    if version:
        rows = [row | {"version": version} for row in rows]
    whole = {"resourceType": "ValueSet", "compose": {"include": rows}}
    checker = checker_of(library, options, whole, tuple((row["system"], row.get("version")) for row in rows))
    return _Validation(checker, coded, options, internal=True).answer()


def validate_batch(library: Library, parameters: Parameters, header: str | None = None) -> Json:
    """ValueSet/$batch-validate-code: each `validation` on its own, completed by the parameters beside them."""
    shared = Parameters(row for row in parameters.rows if row.get("name") != "validation")
    answers = [_one(library, of_resource(r).with_defaults(shared), header) for r in parameters.resources("validation")]
    return answer(*({"name": "validation", "resource": a} for a in answers))


def _one(library: Library, parameters: Parameters, header: str | None) -> Json:
    try:
        value_sets = parameters.first("url", "valueSet") is not None
        return (validate_value_set if value_sets else validate_code_system)(library, parameters, header)
    except FhirError as refused:
        return operation_outcome(refused.issues)


def _system_of(coding: Json, url: str | None) -> str:
    return str(coding.get("system") or url or "")


def value_set_of(library: Library, parameters: Parameters, options: Options) -> Json:
    """The value set of a request, sent along, named by its url and version, or bound to the element of `context`."""
    given = parameters.complex("valueSet")
    if given is not None:
        return given
    url = parameters.text("url") or _bound(parameters.text("context"))
    if not url:
        raise FhirError("required", "A value set is needed: the parameter 'url' or 'valueSet'", status=400)
    version = options.version_for(url.partition("|")[0], parameters.text("valueSetVersion"))
    found = library.value_set(url, version)
    if found is None:
        name = f"{url}|{version}" if version and "|" not in url else url
        raise hinted(refuse("Unable_to_resolve_value_Set_", url=name), library, "ValueSet", url)
    return found


def _bound(context: str | None) -> str | None:
    """The value set that the element `[StructureDefinition]#[path]` is bound to; another context names one itself."""
    url, mark, path = (context or "").partition("#")
    if not mark:
        return context
    definition = model.definition("StructureDefinition", url) or {}
    elements = definition.get("snapshot", {}).get("element", ())
    element = next((e for e in elements if path in (e.get("id"), e.get("path"))), None)
    if element is None:
        missing = f"no element '{path}'" if definition else "no such StructureDefinition"
        raise FhirError("not-found", f"The context '{context}' is not known: {missing}")
    bound = element.get("binding", {}).get("valueSet")
    if bound is None:
        raise FhirError("not-found", f"The element '{path}' of {url} is bound to no value set")
    return str(bound)


def _coded(parameters: Parameters, version_name: str, options: Options, system: str = "") -> Coded:
    concept = parameters.complex("codeableConcept")
    if concept is not None:
        return Coded("codeableConcept", tuple(concept.get("coding", ())), concept)
    coding = parameters.first("coding")
    if coding is not None:
        return Coded("coding", (coding if isinstance(coding, dict) else _token(str(coding)),))
    code, system = parameters.text("code"), parameters.text("system") or system
    if code is None or not (system or options.infer_system):
        raise FhirError("invalid", _NOTHING_TO_CHECK)
    version = parameters.text(version_name)
    row = {"system": system, "version": version, "code": code, "display": parameters.text("display")}
    return Coded("code", ({name: value for name, value in row.items() if value},))


def _token(text: str) -> Json:
    system, bar, code = text.rpartition("|")
    return {"system": system, "code": code} if bar and system else {"code": code}


def _unresolved(coded: Coded, missing: FhirError) -> Json:
    verdict = Verdict(list(missing.issues), {missing.text: None})
    return verdict.parameters(False, _echo(coded))


def _echo(coded: Coded) -> list[Json | None]:
    if coded.concept is not None:
        return [{"name": "codeableConcept", "valueCodeableConcept": coded.concept}]
    coding = coded.codings[0]
    return [parameter("code", coding.get("code"), "Code"), parameter("system", coding.get("system"), "Uri")]


def _supplement_refused(coded: Coded, about: Json) -> Json:
    verdict = Verdict()
    name = f"{about.get('url')}|{about['version']}" if about.get("version") else about.get("url")
    verdict.add("CODESYSTEM_CS_NO_SUPPLEMENT", under(coded.place(0), "system"), system=name)
    return verdict.parameters(False, _echo(coded))


@dataclass(frozen=True, slots=True)
class _Coding:
    """One coding after its check: `ok` is None where it could not be checked."""

    coding: Json
    ok: bool | None
    found: Found
    system: str


class _Validation:
    """Checks each coding against a value set and words the answer; `internal` is a whole code system as a value set."""

    def __init__(self, checker: Checker, coded: Coded, options: Options, *, internal: bool) -> None:
        self.checker = checker
        self.coded = coded
        self.options = options
        self.internal = internal
        self.library: Library = checker.sets.library
        self.verdict = Verdict()

    def answer(self) -> Json:
        """The Parameters of the answer."""
        if not self.internal:
            check_standing(self.verdict, "ValueSet", self.checker.value_set, self.checker.value_set)
        checked = [self._check(i, coding) for i, coding in enumerate(self.coded.codings)]
        ok = _overall([c.ok for c in checked])
        if ok is False and not self.internal:
            self._not_in_set(checked)
        self._note_status()
        return self.verdict.parameters(ok is True and not self.verdict.failed, self._rows(checked, ok))

    def _check(self, number: int, coding: Json) -> _Coding:
        place, found = self.coded.place(number), Found()
        system, code = coding.get("system"), coding.get("code", "")
        if not system and self.options.infer_system:
            system = self._infer(code)
            if system is None:
                return _Coding(coding, False, found, "")
            self.verdict.implied = system
        if not system:
            self.verdict.add("Coding_has_no_system__cannot_validate", place)
        asked = Asked(place, system, coding.get("version"), code)
        ok = self.checker.check(asked, self.verdict, found) if system else False
        if ok is False and not self.internal and self.coded.mode == "codeableConcept":
            named = _named(coding, system or "")
            self.verdict.add("THIS_CODE_NOT_IN_VALUE_SET", under(place, "code"), codes=named, url=self.checker.name)
        if ok:
            self._display(coding, found, place)
        elif system and not self.options.membership_only:
            self._explain(asked, coding, ok, found)
        return _Coding(coding, ok, found, system or "")

    def _infer(self, code: str) -> str | None:
        systems = self.checker.systems_of(code)
        if len(systems) == 1:
            return systems[0]
        name = "Unable_to_resolve_system__value_set_has_multiple_matches" if systems else "UNABLE_TO_INFER_CODESYSTEM"
        self.verdict.add(name, "code", code=code, url=self.checker.name, systems=", ".join(systems))
        return None

    def _display(self, coding: Json, found: Found, place: str) -> None:
        if coding.get("display") and found.concept is not None and found.system is not None:
            names = [*found.concept.names(), *found.extra]
            known = Names(found.concept.display, names, self.options.working)
            lenient = self.options.lenient_display
            check_display(coding["display"], found.system.url, coding["code"], known, place, lenient, self.verdict)

    def _explain(self, asked: Asked, coding: Json, ok: bool | None, found: Found) -> None:
        """Why a code is not in the set: what is wrong with its system, its version, the code itself or its display."""
        system = asked.system or ""
        if not _ABSOLUTE.match(system):
            self.verdict.add("Terminology_TX_System_Relative", under(asked.place, "system"))
        # In the version that the value set has looked in, unless the value names one itself.
        used = None if asked.version or found.system is None or found.system.url != system else found.system
        known = used or self.checker.sets.system(system, asked.version, self.checker.supplements)
        if known is None:
            self._explain_system(asked, system, ok)
            return
        check_version(self.options, known, asked.place, self.verdict)
        check_standing(self.verdict, "CodeSystem", known.system.about, self.checker.value_set)
        code = known.system.locate(asked.code)
        if code is None:
            unknown_code(known, asked, self.verdict)
            return
        found.system, found.concept = known, known.concept(code)
        self._display(coding, found, asked.place)

    def _explain_system(self, asked: Asked, system: str, ok: bool | None) -> None:
        place = under(asked.place, "system")
        if self.library.value_set(system) is not None:
            self.verdict.add("Terminology_TX_System_ValueSet2", place, system=system)
            return
        supplement = self.library.system(system, asked.version)
        if supplement is not None and supplement.about.get("content") == "supplement":
            name = Resolved(supplement).canonical
            self.verdict.add("CODESYSTEM_CS_NO_SUPPLEMENT", place, system=name)
        elif system not in self.verdict.unknown and f"{system}|{asked.version}" not in self.verdict.unknown:
            foreign = ok is False and not asked.version and _ABSOLUTE.match(system) is not None
            if foreign:
                self.verdict.unknown[system] = None
                self.verdict.add("UNKNOWN_CODESYSTEM_FOREIGN", place, system=system)
            else:
                unknown_system(self.library, system, asked.version, asked.place, self.verdict)

    def _not_in_set(self, checked: Sequence[_Coding]) -> None:
        if self.coded.mode == "codeableConcept":
            self.verdict.add("TX_GENERAL_CC_ERROR_MESSAGE", url=self.checker.name)
            return
        codes = ", ".join(_named(c.coding, c.system) for c in checked)
        name = "None_of_the_provided_codes_are_in_the_value_set_one"
        self.verdict.add(name, under(self.coded.place(0), "code"), codes=codes, url=self.checker.name)

    def _note_status(self) -> None:
        """Hints on every code that was found and should not be used any more."""
        for place, noted in self.verdict.noted.items():
            if noted.inactive:
                status = noted.status or "inactive"
                words = {"code": noted.code, "status": status if status == "inactive" else f"{status} and inactive"}
                self.verdict.add("INACTIVE_CONCEPT_FOUND", place or "code", **words)
            elif (noted.status or "").lower() == "deprecated":
                where = {"code": "code", "coding": "Coding"}.get(self.coded.mode, "CodeableConcept")
                self.verdict.add("DEPRECATED_CONCEPT_FOUND", where, code=noted.code)

    def _rows(self, checked: Sequence[_Coding], ok: bool | None) -> list[Json | None]:
        plain = self.coded.mode != "codeableConcept"
        chosen = next((c for c in reversed(checked) if c.ok), checked[0] if plain and checked else None)
        rows = self._of_coding(chosen, plain) if chosen else []
        unknown = "x-unknown-system" if ok is False else "x-caused-by-unknown-system"
        rows += [parameter(unknown, system, "Canonical") for system in self.verdict.unknown]
        noted = self._noted(checked, chosen)
        rows += [parameter("normalized-code", noted.normal, "Code"), parameter("inactive", noted.inactive or None)]
        if noted.status not in ("inactive", "active"):
            rows.append(parameter("status", noted.status, "Code"))
        if self.coded.concept is not None:
            rows.append(parameter("codeableConcept", self.coded.concept, "CodeableConcept"))
        return rows

    def _noted(self, checked: Sequence[_Coding], chosen: _Coding | None) -> Noted:
        """What is known of the coding that the answer names; where it names none, of the last that was found."""
        if chosen is None:
            return next(reversed(self.verdict.noted.values()), Noted(""))
        return self.verdict.noted.get(self.coded.place(checked.index(chosen)), Noted(""))

    def _of_coding(self, chosen: _Coding, plain: bool) -> list[Json | None]:
        found = chosen.found
        version = found.system.version if found.system else None
        display = display_of(found.concept, self.options.working) if found.concept else None
        if display is None and found.concept is not None:
            display = found.concept.display
        return [
            parameter("code", chosen.coding.get("code"), "Code"),
            parameter("system", chosen.system or None, "Uri"),
            parameter("version", version or (chosen.coding.get("version") if plain else None)),
            parameter("display", display),
        ]


def _overall(results: Sequence[bool | None]) -> bool | None:
    if True in results:
        return True
    return None if None in results else False


def _named(coding: Json, system: str) -> str:
    version = f"|{coding['version']}" if coding.get("version") else ""
    display = f" ('{coding['display']}')" if coding.get("display") else ""
    return f"'{system}{version}#{coding.get('code', '')}{display}'"
