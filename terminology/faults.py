"""What can be wrong with the definitions that a value set draws on, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass

from profiles.outcome import FhirError
from terminology.concepts import EXTENSION, Designation, Json
from terminology.concepts import designation as read_designation
from terminology.library import Library
from terminology.messages import refuse
from terminology.request import Options
from terminology.systems import Resolved, standing
from terminology.verdict import Verdict, under
from terminology.versions import canonical, listing, more_detailed

SUPPLEMENT = EXTENSION + "valueset-supplement"


@dataclass(frozen=True, slots=True)
class Asked:
    """One code to check: its place in the request, its system and version as given, the code."""

    place: str
    system: str | None
    version: str | None
    code: str


def vurl(resource: Json) -> str:
    """The url of a value set with its version; one without a url has no name."""
    return canonical(resource.get("url"), resource.get("version")) or "(unidentified)"


def check_standing(verdict: Verdict, kind: str, resource: Json, source: Json) -> None:
    """Adds a hint where a definition is withdrawn, retired, experimental or a draft and the value set is not."""
    name = standing_of(resource, source)
    if name:
        verdict.add(f"MSG_{name.upper()}", type=kind, url=vurl(resource))


def standing_of(resource: Json, source: Json) -> str | None:
    """The word for a definition that should not be relied on."""
    status, standards, experimental = standing(resource)
    source_status, source_standards, source_experimental = standing(source)
    if standards in ("deprecated", "withdrawn"):
        return standards
    if status == "retired":
        return "retired"
    if experimental and not source_experimental:
        return "experimental"
    return "draft" if "draft" in (status, standards) and "draft" not in (source_status, source_standards) else None


def wanted_supplements(value_set: Json, options: Options) -> tuple[str, ...]:
    """The supplements that a value set and a request ask for."""
    named = [
        e.get("valueCanonical") or e.get("valueUri")
        for e in value_set.get("extension", ())
        if e.get("url") == SUPPLEMENT
    ]
    return tuple(dict.fromkeys([*(str(n) for n in named if n), *options.supplements]))


def missing_supplements(missing: set[str]) -> FhirError:
    """The error for supplements that are not known."""
    return refuse("VALUESET_SUPPLEMENT_MISSING", supplements=", ".join(sorted(missing)))


def list_names(entry: Json, value_set: Json) -> list[Designation]:
    """The names that a value set gives a code."""
    own = [Designation(entry["display"], value_set.get("language"))] if entry.get("display") else []
    return own + [read_designation(d) for d in entry.get("designation", ())]


def check_version(options: Options, system: Resolved, place: str, verdict: Verdict) -> None:
    """Adds an error where a rule demands another version."""
    for rule in options.checks(system.url):
        if system.version != rule.version and not more_detailed(rule.version, system.version):
            words = {"version": system.version or "", "system": system.url, "wanted": rule.version}
            verdict.add("VALUESET_VERSION_CHECK", under(place, "version"), **words)


def unknown_code(system: Resolved, asked: Asked, verdict: Verdict) -> None:
    """Adds that the system has no such code."""
    place, words = under(asked.place, "code"), {"code": asked.code, "system": system.url, "version": system.version}
    if system.content != "complete":
        verdict.add("UNKNOWN_CODE_IN_FRAGMENT", place, **words)
    else:
        verdict.add("Unknown_Code_in_Version" if system.version else "Unknown_Code_in", place, **words)


def unknown_system(library: Library, url: str, version: str | None, place: str, verdict: Verdict) -> None:
    """Adds that a system, or a version of it, is not known, and which are."""
    if version:
        unknown_version(library, url, version, place, verdict)
    else:
        verdict.unknown[url] = None
        verdict.add("UNKNOWN_CODESYSTEM", under(place, "system"), system=url)


def unknown_version(library: Library, url: str, version: str, place: str, verdict: Verdict) -> None:
    """Adds that a version is not known, and which are."""
    known = library.versions("CodeSystem", url)
    verdict.unknown[canonical(url, version) if known else url] = None
    name = "UNKNOWN_CODESYSTEM_VERSION" if known else "UNKNOWN_CODESYSTEM_VERSION_NONE"
    verdict.add(name, under(place, "system"), system=url, version=version, known=listing(known))


def unknown_for_expansion(library: Library, url: str, version: str | None) -> FhirError:
    """The error of an expansion that needs a system that is not known."""
    if not version:
        return refuse("UNKNOWN_CODESYSTEM_EXP", system=url)
    known = library.versions("CodeSystem", url)
    name = "UNKNOWN_CODESYSTEM_VERSION_EXP" if known else "UNKNOWN_CODESYSTEM_VERSION_EXP_NONE"
    return refuse(name, system=url, version=version, known=listing(known))
