"""The search cases of tests/cases/*.yaml, and the little world in memory that answers them without a database."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import yaml

from search.clauses import Chain, Clause, Coded, Has, Kinds, Listed, OneOf, every
from search.entries import entries
from search.matches import Subject, holds, matches
from search.params import TYPE_CODES, Registry
from search.query import Query, parse
from search.types.reference import PART_OF
from search.types.token import coded

FOLDER = Path(__file__).parent / "cases"
BASE = "http://localhost:8000/fhir"
NOW = 1_767_225_600_000  # 2026-01-01T00:00:00Z
UPDATED = "2025-06-01T12:00:00.000Z"


class Loader(yaml.SafeLoader):
    """YAML with dates as text and decimals with all their digits."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rows if tag != "tag:yaml.org,2002:timestamp"]
    for first, rows in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_constructor("tag:yaml.org,2002:float", lambda loader, node: Decimal(node.value))


@dataclass(frozen=True)
class Case:
    """A query and what it finds: names, in order where `ordered`; or a part of the text of its error."""

    file: str
    query: str
    names: tuple[str, ...] = ()
    ordered: bool = False
    error: str = ""

    def __str__(self) -> str:
        return f"{self.file}: {self.query}"

    @property
    def type(self) -> str | None:
        path = self.query.partition("?")[0].split("/")
        return path[-1] if path[-1] not in ("", "*") else None

    @property
    def compartment(self) -> tuple[str, str] | None:
        path = self.query.partition("?")[0].split("/")
        return (path[0], path[1]) if len(path) == 3 else None

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return parse_qsl(self.query.partition("?")[2], keep_blank_values=True)


@cache
def document(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load((FOLDER / name).read_text(), Loader)
    return loaded


@cache
def world(name: str) -> World:
    resources = []
    for resource in document(name)["resources"]:
        meta = {"versionId": "1", "lastUpdated": UPDATED, **resource.get("meta", {})}
        resources.append({**resource, "meta": meta})
    return World(resources, document(name).get("terms", {}))


def files() -> list[str]:
    return sorted(path.name for path in FOLDER.glob("*.yaml"))


def cases(name: str) -> list[Case]:
    return [_case(name, query, answer) for query, answer in document(name)["cases"].items()]


def all_cases() -> list[Case]:
    return [case for name in files() for case in cases(name)]


def _case(name: str, query: str, answer: Any) -> Case:
    ordered = isinstance(answer, list)
    words = [str(w) for w in answer] if ordered else str(answer or "").split()
    if isinstance(answer, str) and answer.startswith("!"):
        return Case(name, query, error=answer[1:].strip())
    kind = Case(name, query).type
    names = tuple(w if "/" in w else f"{kind}/{w}" for w in words)
    return Case(name, query, names, ordered)


class World:
    """Resources in memory; what chains and lists need is looked up in the plainest way."""

    def __init__(self, resources: list[dict[str, Any]], terms: dict[str, Any]) -> None:
        self.registry = Registry.r4()
        self.resources = resources
        self.terms = terms
        self.entries = {self.name(r): entries(r, self.registry, BASE) for r in resources}

    @staticmethod
    def name(resource: dict[str, Any]) -> str:
        return f"{resource['resourceType']}/{resource['id']}"

    def query(self, case: Case) -> Query:
        return parse(case.type, case.pairs, self.registry, compartment=case.compartment, base=BASE, now=NOW)

    def find(self, clause: Clause) -> list[str]:
        found = [r for r in self.resources if matches(clause, self.entries[self.name(r)], r, self.linked)]
        return sorted(self.name(r) for r in found)

    def codes(self, how: str, value: str) -> list[tuple[str, str]]:
        return [(pair[0], pair[1]) for pair in self.terms.get(how, {}).get(value, [])]

    def linked(self, clause: Clause, subject: Subject) -> bool:
        if isinstance(clause, Chain):
            found = self.find(every((Kinds((clause.target,)), clause.where)))
            return not self.targets(clause, subject).isdisjoint(found)
        if isinstance(clause, Has):
            own = subject.resource["resourceType"]
            if own not in clause.own_types or subject.home is not None:
                return False
            if clause.how == "canonical":
                url, version = subject.resource["url"], subject.resource.get("version", "").lower()
                texts = tuple(f"{key}^{url}|{v}" for key in clause.keys for v in ("", version))
                return bool(self.find(every((Kinds((clause.source,)), OneOf(texts), clause.where))))
            refers = OneOf(tuple(f"{key}{TYPE_CODES[own]}{subject.resource['id']}" for key in clause.keys))
            return bool(self.find(every((Kinds((clause.source,)), refers, clause.where))))
        if isinstance(clause, Coded):
            return holds(coded(clause, self.codes(clause.how, clause.value)), subject)
        assert isinstance(clause, Listed)
        return self.listed(clause, subject)

    def targets(self, chain: Chain, subject: Subject) -> set[str]:
        rest = [e[5:] for e in subject.entries if e[:5] in chain.keys]
        if chain.how == "reference":
            return {f"{chain.target}/{t[2:]}" for t in rest if t[:2] == TYPE_CODES[chain.target]}
        urls = {t[1:] for t in rest if t[:1] == "^"}
        same = [
            r
            for r in self.resources
            if f"{r.get('url')}|" in urls or f"{r.get('url')}|{r.get('version', '').lower()}" in urls
        ]
        return {self.name(r) for r in same}

    def listed(self, clause: Listed, subject: Subject) -> bool:
        by_name = {self.name(r): r for r in self.resources}
        if clause.how == "list":
            items = by_name.get(clause.value, {}).get("entry", [])
            return subject.home is None and self.name(subject.resource) in [i["item"]["reference"] for i in items]
        names = self.below(clause) if clause.how == "below" else self.above(clause)
        code = TYPE_CODES[clause.target]
        texts = tuple(f"{k}{code}{n.partition('/')[2]}" for k in clause.keys for n in names)
        return holds(OneOf(texts), subject)

    def above(self, clause: Listed, name: str = "", seen: frozenset[str] = frozenset()) -> set[str]:
        name = name or clause.value
        if name in seen:
            return set()
        parent = self.registry.lookup(clause.target, PART_OF[clause.target])
        assert parent is not None
        code = parent.key + TYPE_CODES[clause.target]
        ups = {f"{clause.target}/{e[7:]}" for e in self.entries.get(name, []) if e.startswith(code)}
        return {name}.union(*(self.above(clause, up, seen | {name}) for up in ups))

    def below(self, clause: Listed) -> set[str]:
        every_one = [n for n in self.entries if n.startswith(f"{clause.target}/")]
        return {n for n in every_one if clause.value in self.above(clause, n)} | {clause.value}
