"""Package files on disk: those that were named, and their dependencies that lie beside them."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fhir_server.packages.plan import BUILT_IN, fits
from profiles.json import parse
from profiles.outcome import FhirError
from profiles.packages import Package, read_package

MANIFEST = "package/package.json"
MOST_BYTES = 1_000_000  # of a manifest
MOST_MEMBERS = 50  # until a manifest must have come; it is written first


@dataclass(frozen=True, slots=True)
class Source:
    """A package file and its package."""

    path: Path
    raw: bytes
    package: Package


def read_file(path: Path) -> Source:
    """The package of a file; FhirError names the file."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise FhirError("not-found", f"{path} cannot be read: {error.strerror}") from None
    try:
        return Source(path, raw, read_package(raw))
    except FhirError as error:
        raise FhirError(error.code, f"{path.name}: {error.text}") from None


def with_dependencies(paths: Sequence[Path]) -> list[Source]:
    """The files that were named, and the files beside them that they depend on, and so on."""
    found = [read_file(path) for path in paths]
    beside = list(_beside(paths))
    for source in found:  # grows on the way
        have = [(known.package.name, known.package.version) for known in found]
        found.extend(read_file(path) for path in list(_needed(source.package, have, beside)))
    return found


def _needed(package: Package, have: list[tuple[str, str]], beside: Iterable[tuple[Path, str, str]]) -> Iterator[Path]:
    for name, wanted in package.dependencies.items():
        if name in BUILT_IN or any(name == own and fits(wanted, version) for own, version in have):
            continue
        fitting = [path for path, own, version in beside if own == name and fits(wanted, version)]
        yield from fitting[-1:]


def _beside(paths: Sequence[Path]) -> Iterator[tuple[Path, str, str]]:
    for folder in dict.fromkeys(path.resolve().parent for path in paths):
        for path in sorted(folder.glob("*.tgz")):
            manifest = _manifest(path)
            if manifest:
                yield path, str(manifest.get("name")), str(manifest.get("version"))


def _manifest(path: Path) -> dict[str, Any] | None:
    """The manifest alone; None for a file that is no package."""
    try:
        with tarfile.open(path, "r|gz") as tar:
            for number, member in enumerate(tar):
                if member.name == MANIFEST and member.isfile() and member.size <= MOST_BYTES:
                    held = tar.extractfile(member)
                    found = parse(held.read()) if held else None
                    return found if isinstance(found, dict) else None
                if number == MOST_MEMBERS:
                    return None
    except (OSError, EOFError, tarfile.TarError, FhirError):
        return None
    return None
