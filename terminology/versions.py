"""Versions of code systems and value sets: which one a reference asks for (http://hl7.org/fhir/R4/codesystem.html#versioning)."""

from __future__ import annotations

import re
from collections.abc import Iterable

_PIECE = re.compile(r"(\d+)|([^\d.\-_/]+)")
_WILD = frozenset(("x", "X", "*"))


def split_canonical(canonical: str) -> tuple[str, str | None]:
    """`url|version` in its two parts."""
    url, _, version = canonical.partition("|")
    return url, version or None


def canonical(url: str | None, version: str | None) -> str:
    """The two parts as one canonical reference."""
    return f"{url or ''}|{version}" if version else url or ""


def order(version: str | None) -> tuple[tuple[int, int, str], ...]:
    """A sort key: numbers by value, so 1.10 follows 1.9, and dates in their order."""
    return tuple((1, int(n), "") if n else (0, 0, w) for n, w in _PIECE.findall(version or ""))


def latest(versions: Iterable[str | None]) -> str | None:
    """The greatest version, None where nothing else is there."""
    return max(versions, key=order, default=None)


def matches(wanted: str, actual: str | None) -> bool:
    """Whether the version is the wanted one: equal, of its wildcard (`1.x`), or a detail of it (`1.0` and `1.0.3`)."""
    if actual is None:
        return False
    if wanted == actual:
        return True
    asked, given = wanted.split("."), actual.split(".")
    if len(asked) > len(given):
        return False
    return all(a in _WILD or a == g for a, g in zip(asked, given, strict=False))


def is_wild(version: str | None) -> bool:
    """Whether the version is a pattern such as `1.x.x`."""
    return version is not None and not _WILD.isdisjoint(version.split("."))


def more_detailed(general: str, specific: str | None) -> bool:
    """Whether the second version says more about the same version than the first."""
    return general != specific and matches(general, specific)


def listing(versions: Iterable[str]) -> str:
    """Versions as a reader expects them: `1.0.0`, `1.0.0 or 1.2.0`, `1.0.0, 1.1.0 or 1.2.0`."""
    ordered = sorted(set(versions), key=order)
    return " or ".join(filter(None, (", ".join(ordered[:-1]), ordered[-1] if ordered else "")))
