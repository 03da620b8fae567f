"""Reading HL7 packages: a gzipped tar with package.json and one resource a file (https://hl7.org/fhir/packages.html).

A package that is broken anywhere is refused whole: links, paths that lead outside, too much data, text that is no JSON.
"""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from profiles.json import encode, parse
from profiles.outcome import FhirError

MAX_FILES = 50_000
MAX_FILE = 100_000_000  # bytes, unpacked
MAX_TOTAL = 1_500_000_000  # bytes, unpacked; hl7.terminology has 120 million
MAX_RATIO = 200  # of unpacked to packed; real packages have 5 to 30
INDEXES = {".index.json", ".index.db", "package.json"}


@dataclass(frozen=True, slots=True)
class Member:
    """A resource of a package; `is_example` when it lies in the folder `example`."""

    path: str
    type: str
    id: str
    url: str
    body: bytes
    is_example: bool

    @property
    def resource(self) -> dict[str, Any]:
        found: dict[str, Any] = parse(self.body)
        return found


@dataclass(frozen=True, slots=True)
class Package:
    """What a package says of itself, and its resources."""

    name: str
    version: str
    canonical: str
    fhir_versions: tuple[str, ...]
    dependencies: dict[str, str]
    members: tuple[Member, ...]

    def of(self, *types: str, examples: bool = False) -> Iterator[Member]:
        """The members of some types, or of all; examples only when asked for."""
        return (m for m in self.members if (not types or m.type in types) and (examples or not m.is_example))


def read_package(raw: bytes) -> Package:
    """The package in a .tgz; FhirError `invalid` names the file at fault."""
    files: dict[str, bytes] = {}
    for path, content in _files(raw):
        if path in files:
            raise FhirError("invalid", f"The package has two files {path[:200]!r}")
        files[path] = content
    if "package/package.json" not in files:
        raise FhirError("invalid", "This is no FHIR package: package/package.json is missing")
    manifest = _json("package/package.json", files["package/package.json"])
    name, version = manifest.get("name"), manifest.get("version")
    if not isinstance(name, str) or not isinstance(version, str):
        raise FhirError("invalid", "package/package.json must have a name and a version")
    versions = manifest.get("fhirVersions") or manifest.get("fhir-version-list") or []
    return Package(
        name,
        version,
        str(manifest.get("canonical", "")),
        tuple(map(str, versions)),
        {str(k): str(v) for k, v in (manifest.get("dependencies") or {}).items()},
        tuple(_members(files)),
    )


def _members(files: dict[str, bytes]) -> Iterator[Member]:
    for path, raw in files.items():
        place = PurePosixPath(path)
        if place.suffix != ".json" or place.name in INDEXES or place.parts[0] != "package":
            continue
        content = _json(path, raw)
        kind = content.get("resourceType")
        if isinstance(kind, str):
            ident, url = str(content.get("id", "")), str(content.get("url", ""))
            yield Member(path, kind, ident, url, encode(content), "example" in place.parts[:-1])


def _json(path: str, raw: bytes) -> dict[str, Any]:
    try:
        found = parse(raw)
    except FhirError as error:
        raise FhirError("invalid", f"{path}: {error.text}") from None
    if not isinstance(found, dict):
        raise FhirError("invalid", f"{path} is not a JSON object")
    return found


def _files(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """Path and content of every regular file."""
    data = io.BytesIO(_unzip(raw))
    count = 0
    try:
        with tarfile.open(fileobj=data, mode="r:") as tar:
            for member in tar:
                count += 1
                _check_member(member, count)
                held = tar.extractfile(member) if member.isfile() else None
                if held is not None:
                    yield str(PurePosixPath(member.name)), held.read()
    except (tarfile.TarError, EOFError) as error:
        raise FhirError("invalid", f"The package is no readable tar file: {error}") from None


def _unzip(raw: bytes) -> bytes:
    """The unpacked tar, refused before it grows beyond the limits."""
    limit = min(MAX_TOTAL, max(len(raw) * MAX_RATIO, 1_000_000))
    unzip = zlib.decompressobj(wbits=31)
    try:
        found = unzip.decompress(raw, limit)
    except zlib.error as error:
        raise FhirError("invalid", f"The package is not gzipped: {error}") from None
    if unzip.unconsumed_tail:
        raise FhirError("too-long", f"The package unpacks to more than {limit} bytes")
    if not unzip.eof:
        raise FhirError("invalid", "The package is cut off")
    return found


def _check_member(member: tarfile.TarInfo, count: int) -> None:
    path = PurePosixPath(member.name)
    if count > MAX_FILES:
        raise FhirError("too-long", f"The package has more than {MAX_FILES} files")
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
        raise FhirError("invalid", f"The package has a path that leads outside: {member.name[:200]!r}")
    if not (member.isfile() or member.isdir()):
        raise FhirError("invalid", f"The package has a link or device: {member.name[:200]!r}")
    if member.size > MAX_FILE:
        raise FhirError("too-long", f"{member.name[:200]!r} is larger than {MAX_FILE} bytes")
