"""CodeSystem/$lookup (http://hl7.org/fhir/R4/codesystem-operation-lookup.html)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from profiles.outcome import FhirError
from terminology.concepts import Concept, Designation, Json, value_of
from terminology.faults import missing_supplements, unknown_for_expansion
from terminology.filters import refuse_unknown_properties
from terminology.hints import hinted
from terminology.languages import display_of
from terminology.library import Library
from terminology.packed import PackedSystem
from terminology.request import Options, Parameters, answer, options_of, parameter
from terminology.systems import Resolved, System
from terminology.versions import canonical, listing


def lookup(
    library: Library, parameters: Parameters, header: str | None = None, code_system: Json | None = None
) -> Json:
    """The details of one code; an unknown code is 404, an unknown system says which versions are known."""
    options = options_of(parameters, header)
    system, code, version = _asked(parameters, code_system)
    if code_system is not None:
        library = library.under([code_system])
    resolved = resolve(library, options, system, version)
    known = resolved.system.locate(code)
    if known is None:
        of_version = f" version '{resolved.version}'" if resolved.version else ""
        raise FhirError("not-found", f"Unknown code '{code}' in the CodeSystem '{system}'{of_version}")
    refuse_unknown_properties([resolved], options.properties)
    return _answer(resolved, resolved.concept(known), options)


def resolve(library: Library, options: Options, url: str, version: str | None) -> Resolved:
    """The code system of a request, with its supplements; what is missing is named."""
    wanted = options.version_for(url, version)
    found = library.code_system(url, wanted)
    if found is None:
        raise hinted(_unknown(library, url, wanted), library, "CodeSystem", url)
    resolved = library.resolved(found, options.supplements)
    missing = {s for s in options.supplements if library.supplement(s, url) is None}
    if missing:
        raise missing_supplements(missing)
    return resolved


def _unknown(library: Library, url: str, version: str | None) -> FhirError:
    found = library.system(url, version)
    if found is not None and found.about.get("content") == "supplement":
        return FhirError("invalid", f"The code system '{url}' is a supplement: look the code up in what it supplements")
    if library.value_set(url) is not None:
        return FhirError("invalid", f"'{url}' is a value set, not a code system")
    refused = unknown_for_expansion(library, url, version)
    known = library.versions("CodeSystem", url)
    text = f"A definition for CodeSystem '{canonical(url, version)}' could not be found"
    return FhirError("not-found", f"{text}. Valid versions: {listing(known)}" if known else text, status=refused.status)


def _asked(parameters: Parameters, code_system: Json | None) -> tuple[str, str, str | None]:
    coding = parameters.complex("coding") or {}
    of_instance = code_system.get("url") if code_system else None
    system = parameters.text("system", "url") or coding.get("system") or of_instance
    code = parameters.text("code") or coding.get("code")
    if not code:
        raise FhirError("required", "A code is needed: the parameters 'code' and 'system', or 'coding'", status=400)
    if not system:
        raise FhirError("required", f"The system of the code '{code}' is needed: the parameter 'system'", status=400)
    version = parameters.text("version") or coding.get("version")
    return str(system), str(code), version or (code_system.get("version") if code_system else None)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The properties asked for; none means all, `*` too."""

    names: tuple[str, ...]

    def __call__(self, name: str) -> bool:
        return not self.names or "*" in self.names or name in self.names


def _answer(resolved: Resolved, concept: Concept, options: Options) -> Json:
    about, wanted = resolved.system.about, _Wanted(options.properties)
    display = display_of(concept, options.working) or concept.display or concept.code
    return answer(
        parameter("name", about.get("name") or about.get("title") or resolved.url),
        parameter("version", resolved.version),
        parameter("display", display),
        parameter("code", concept.code, "Code"),
        parameter("system", resolved.url, "Uri"),
        parameter("abstract", True) if concept.abstract else None,
        parameter("definition", concept.definition) if wanted("definition") else None,
        *(_designation(d) for d in concept.names() if wanted("designation") or _by_language(options, d)),
        *_properties(resolved, concept, wanted),
        *(parameter("used-supplement", Resolved(s).canonical, "Canonical") for s in resolved.supplements),
    )


def _by_language(options: Options, name: Designation) -> bool:
    return f"lang.{name.language}" in options.properties


def _designation(name: Designation) -> Json:
    parts = [
        parameter("language", name.language, "Code"),
        parameter("use", name.use, "Coding"),
        parameter("value", name.value),
        parameter("source", name.source, "Canonical"),
    ]
    return {"name": "designation", "part": [p for p in parts if p]}


def _property(code: str, value: Json, description: str | None = None) -> Json:
    parts = [parameter("code", code, "Code"), {"name": "value", **value}, parameter("description", description)]
    return {"name": "property", "part": [p for p in parts if p]}


def _properties(resolved: Resolved, concept: Concept, wanted: Callable[[str], bool]) -> Iterator[Json]:
    if wanted("inactive"):
        yield _property("inactive", {"valueBoolean": concept.inactive})
    for name, others in (("parent", resolved.system.parents), ("child", resolved.system.children)):
        if wanted(name):
            yield from (_relative(name, code, resolved) for code in others(concept.code))
    for row in concept.properties:
        key, value = value_of(row)
        if wanted(row.get("code", "")) and key is not None and row.get("code") not in ("inactive", "parent", "child"):
            yield _property(row["code"], {key: value})


def _relative(name: str, code: str, resolved: Resolved) -> Json:
    return _property(name, {"valueCode": code}, _display(resolved.system, code))


def _display(system: System, code: str) -> str | None:
    """The display alone, which a packed table gives without reading the rest."""
    if isinstance(system, PackedSystem):
        number = system.number(code)
        return None if number is None else system.display(number)
    return system.concept(code).display
