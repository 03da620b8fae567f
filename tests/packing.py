"""What tests of packages need: package files made on the spot, and the published ones."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path
from typing import Any

from profiles.json import encode
from tests.shell import constraint

SHARED = Path(os.environ.get("FHIR_SHARED", Path(__file__).parents[2] / "shared")) / "igs"
URL = "http://example.org/guide"
Json = dict[str, Any]


def tgz(files: dict[str, bytes], *links: str) -> bytes:
    """A package with these files, and symbolic links of these names; the same bytes at any time."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info)
    return gzip.compress(held.getvalue(), mtime=0)


def manifest(name: str = "example.guide", version: str = "1.0.0", **more: Any) -> Json:
    """What a package says of itself."""
    return {"name": name, "version": version, "canonical": URL, "fhirVersions": ["4.0.1"], **more}


def package(*resources: Json, examples: tuple[Json, ...] = (), **about: Any) -> bytes:
    """A package with these resources."""
    files = {"package/package.json": encode(manifest(**about))}
    files |= {f"package/{row['resourceType']}-{row['id']}.json": encode(row) for row in resources}
    files |= {f"package/example/{row['resourceType']}-{row['id']}.json": encode(row) for row in examples}
    return tgz(files)


def profile(id: str = "named", version: str = "1.0.0", **more: Any) -> Json:
    """A profile of Patient that demands a name, of a code of the guide's value set."""
    elements = [
        {"id": "Patient", "path": "Patient"},
        {"id": "Patient.name", "path": "Patient.name", "min": 1},
        {
            "id": "Patient.maritalStatus",
            "path": "Patient.maritalStatus",
            "binding": {"strength": "required", "valueSet": f"{URL}/ValueSet/states"},
        },
    ]
    url = f"{URL}/StructureDefinition/{id}"
    return constraint(url, *elements, version=version, fhirVersion="4.0.1", **more)


def codes() -> Json:
    """The guide's code system."""
    return {
        "resourceType": "CodeSystem",
        "id": "states",
        "url": f"{URL}/CodeSystem/states",
        "status": "active",
        "content": "complete",
        "concept": [{"code": "tied"}, {"code": "free"}],
    }


def value_set() -> Json:
    """The guide's value set."""
    return {
        "resourceType": "ValueSet",
        "id": "states",
        "url": f"{URL}/ValueSet/states",
        "status": "active",
        "compose": {"include": [{"system": f"{URL}/CodeSystem/states"}]},
    }


def parameter() -> Json:
    """The guide's search parameter: patients by the text of their marital status."""
    return {
        "resourceType": "SearchParameter",
        "id": "state",
        "url": f"{URL}/SearchParameter/state",
        "name": "state",
        "status": "active",
        "description": "The state.",
        "code": "state",
        "base": ["Patient"],
        "type": "token",
        "expression": "Patient.maritalStatus",
    }


def guide(**about: Any) -> bytes:
    """A package with one of each."""
    ada = {"resourceType": "Patient", "id": "ada", "name": [{"family": "Lovelace"}]}
    return package(profile(), codes(), value_set(), parameter(), examples=(ada,), **about)
