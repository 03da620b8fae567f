"""CodeSystem/$subsumes (http://hl7.org/fhir/R4/codesystem-operation-subsumes.html)."""

from __future__ import annotations

from profiles.outcome import FhirError
from terminology.concepts import Json
from terminology.library import Library
from terminology.lookup import resolve
from terminology.request import Parameters, answer, options_of, parameter
from terminology.systems import System


def subsumes(library: Library, parameters: Parameters, code_system: Json | None = None) -> Json:
    """`equivalent`, `subsumes`, `subsumed-by` or `not-subsumed`."""
    a, b = _side(parameters, "A"), _side(parameters, "B")
    given = code_system or {}
    system = parameters.text("system", "url") or a.get("system") or given.get("url")
    if not system:
        raise FhirError("required", "The code system is needed: the parameter 'system'", status=400)
    other = b.get("system", system)
    if other != system or a.get("system", system) != system:
        raise FhirError("invalid", f"The codes must be of one code system, not of '{system}' and '{other}'")
    if code_system is not None:
        library = library.under([code_system])
    version = parameters.text("version") or a.get("version") or given.get("version")
    found = resolve(library, options_of(parameters), str(system), version)
    codes = [_located(found.system, str(side["code"])) for side in (a, b)]
    return answer(parameter("outcome", outcome(found.system, *codes), "Code"))


def _side(parameters: Parameters, side: str) -> Json:
    coding = parameters.complex(f"coding{side}")
    code = parameters.text(f"code{side}")
    found = coding or ({"code": code} if code else None)
    if not found or not found.get("code"):
        raise FhirError("required", f"A code is needed: the parameter 'code{side}' or 'coding{side}'", status=400)
    return found


def _located(system: System, code: str) -> str:
    found = system.locate(code)
    if found is None:
        of_version = f" version '{system.version}'" if system.version else ""
        raise FhirError("not-found", f"Unknown code '{code}' in the CodeSystem '{system.url}'{of_version}")
    return found


def outcome(system: System, a: str, b: str) -> str:
    """How two codes of a system relate; in a cycle each is above the other, which makes them equivalent."""
    if a == b:
        return "equivalent"
    above, below = system.subsumes(a, b), system.subsumes(b, a)
    if above and below:
        return "equivalent"
    return "subsumes" if above else "subsumed-by" if below else "not-subsumed"
