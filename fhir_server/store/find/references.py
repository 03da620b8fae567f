"""References of stored documents by their entries: to names, and to canonical urls, in both directions."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from fhir_server.store.records import Document
from search.clauses import Clause, OneOf, every, some
from search.params import TYPE_CODES, Registry
from search.types.reference import canonical_text


def referred(row: Document, keys: tuple[str, ...], *own_types: str) -> list[str]:
    """The names of these types that a document refers to under the keys."""
    heads = {key + TYPE_CODES[kind]: kind for kind in own_types for key in keys}
    return [f"{heads[e[:7]]}/{e[7:]}" for e in row["s"] if e[:7] in heads and "/" not in e[7:]]


def urls_of(registry: Registry, kind: str, row: Document) -> list[tuple[str, str]]:
    """(url, version) of a resource, from its entries."""
    url, version = registry.lookup(kind, "url"), registry.lookup(kind, "version")
    if url is None:
        return []
    versions = [e[5:].partition("|")[0] for e in row["s"] if version and e.startswith(version.key)]
    return [(e[5:], versions[0] if versions else "") for e in row["s"] if e.startswith(url.key)]


def naming(registry: Registry, keys: Collection[str], row: Document) -> tuple[str, ...]:
    """The entries that name a resource by its url, with its version or without one."""
    kind = row["_id"].partition("/")[0]
    return tuple(
        canonical_text(key, f"{url}|{v}")
        for url, version in urls_of(registry, kind, row)
        for key in keys
        for v in dict.fromkeys(("", version))
    )


def named_by(registry: Registry, kind: str, texts: Iterable[str]) -> Clause:
    """The resources of a type that `url|version` names, any version where there is none."""
    url, version = registry.lookup(kind, "url"), registry.lookup(kind, "version")
    if url is None:
        return some(())
    clauses: list[Clause] = []
    for text in sorted(texts):
        head, _, tail = text.partition("|")
        same: Clause = OneOf((url.key + head,))
        clauses.append(every((same, OneOf((f"{version.key}{tail}|",)))) if tail and version else same)
    return some(clauses)


def canonicals(row: Document, keys: Collection[str]) -> list[str]:
    """What a document refers to under the keys: `url|version`."""
    heads = tuple(f"{key}^" for key in keys)
    return [e[6:] for e in row["s"] if e.startswith(heads) and "|" in e]
