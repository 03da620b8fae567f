"""What an installation will do, before anything is written: which packages in which order, which resources."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from profiles.model import RESOURCE_TYPES
from profiles.outcome import FhirError
from profiles.packages import Member, Package

# Resources that define something, which a package is installed for; all others are examples.
CONFORMANCE = frozenset(
    (
        *("ActivityDefinition", "CapabilityStatement", "ChargeItemDefinition", "CodeSystem", "CompartmentDefinition"),
        *("ConceptMap", "EventDefinition", "ExampleScenario", "GraphDefinition", "ImplementationGuide", "Library"),
        *("Measure", "MessageDefinition", "NamingSystem", "OperationDefinition", "PlanDefinition", "Questionnaire"),
        *(
            "SearchParameter",
            "StructureDefinition",
            "StructureMap",
            "TerminologyCapabilities",
            "TestScript",
            "ValueSet",
        ),
    )
)
# What a package of FHIR itself would bring is in the server already.
BUILT_IN = {"hl7.fhir.r4.core": "4.0.1", "hl7.fhir.r4.examples": "4.0.1", "hl7.fhir.r4.expansions": "4.0.1"}
FOLDERS = ("package", "package/example", "package/examples")
ANY = ("*", "current", "dev", "latest")


def check_release(package: Package) -> None:
    """Refuse a package for another release of FHIR; one that names none is taken."""
    versions = package.fhir_versions
    if versions and not any(version == "4.0" or version.startswith("4.0.") for version in versions):
        told = ", ".join(versions)
        raise FhirError("not-supported", f"{package.name}#{package.version} is for FHIR {told}; this server has R4.")


def definitions(package: Package) -> list[Member]:
    """The resources that are always loaded; what others depend on comes first."""
    found = [member for member in _members(package) if member.type in CONFORMANCE and not member.is_example]
    return sorted(found, key=lambda member: ORDER.get(member.type, len(ORDER)))


ORDER = {name: number for number, name in enumerate(("CodeSystem", "ValueSet", "StructureDefinition"))}


def examples(package: Package) -> list[Member]:
    """The resources that are loaded on request."""
    return [member for member in _members(package) if member.type not in CONFORMANCE or member.is_example]


def _members(package: Package) -> Iterable[Member]:
    """Resources with a name, in the folders for them; `other` has reports on the package itself."""
    for member in package.members:
        folder = str(PurePosixPath(member.path).parent)
        if folder in FOLDERS and member.type in RESOURCE_TYPES and member.id:
            yield member


def other_id(member: Member, version: str) -> str:
    """The id of a resource whose own id is taken by another one: always the same for the same version."""
    digest = hashlib.blake2b(f"{member.url}|{version}".encode(), digest_size=4).hexdigest()
    return f"{member.id[:55]}-{digest}"


def fits(wanted: str, version: str) -> bool:
    """Whether a version is the one a dependency names: `1.2.x` is any patch of 1.2."""
    if wanted in ANY or wanted == version:
        return True
    line, wild, _ = wanted.partition("x")
    return bool(wild) and line.endswith(".") and version.startswith(line)


def is_met(name: str, wanted: str, present: Iterable[tuple[str, str]]) -> bool:
    """Whether a dependency is in the server, or among the packages that are present."""
    if name in BUILT_IN:
        return True
    return any(name == own and fits(wanted, version) for own, version in present)


def missing(dependencies: Iterable[str], present: Iterable[tuple[str, str]]) -> list[str]:
    """The dependencies, as `name#version`, that are nowhere, and which version there is instead."""
    known = list(present)
    rows = [(name, wanted) for name, _, wanted in (text.partition("#") for text in dependencies)]
    return [f"{name}#{wanted}{_instead(name, known)}" for name, wanted in rows if not is_met(name, wanted, known)]


def needs(dependencies: Iterable[str], own: tuple[str, str], rest: Iterable[tuple[str, str]]) -> bool:
    """Whether a dependency, as `name#version`, is met by this package and by no other."""
    rows = [(name, wanted) for name, _, wanted in (text.partition("#") for text in dependencies)]
    known = list(rest)
    return any(is_met(*row, [own]) and not is_met(*row, known) for row in rows)


def named(package: Package) -> list[str]:
    """The dependencies of a package, as `name#version`."""
    return [f"{name}#{version}" for name, version in package.dependencies.items()]


def _instead(name: str, known: Iterable[tuple[str, str]]) -> str:
    there = ", ".join(version for own, version in known if own == name)
    return f" ({there} is there)" if there else ""


def check_distinct(packages: Sequence[Package]) -> None:
    """Refuse two packages that call themselves the same, and a package with two resources of the same name."""
    names = [f"{package.name}#{package.version}" for package in packages]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise FhirError("duplicate", f"{twice} is sent twice.", status=400)
    for package in packages:
        seen: dict[tuple[str, str], str] = {}
        for member in [*definitions(package), *examples(package)]:
            other = seen.setdefault((member.type, member.id), member.path)
            if other != member.path:
                raise FhirError(
                    "duplicate",
                    f"{package.name}: {other} and {member.path} are both {member.type}/{member.id}.",
                    status=400,
                )


def in_order(packages: Sequence[Package]) -> list[Package]:
    """Each package after those it depends on; a circle is broken where it was begun."""
    left = {(package.name, package.version): package for package in packages}
    found: list[Package] = []

    def take(package: Package) -> None:
        if left.pop((package.name, package.version), None) is None:
            return
        for other in list(left.values()):
            if is_met(other.name, package.dependencies.get(other.name, ""), [(other.name, other.version)]):
                take(other)
        found.append(package)

    for package in packages:
        take(package)
    return found
