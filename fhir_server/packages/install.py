"""Installing, listing and removing packages: their definitions become ordinary resources.

What was installed is recorded with the version of each resource that was written, so that a second installation
changes nothing and a removal takes away what nobody has changed since.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from fhir_server.context import Context, Request, Resource
from fhir_server.interactions.delete import delete
from fhir_server.interactions.update import put
from fhir_server.packages.plan import (
    BUILT_IN,
    check_distinct,
    check_release,
    definitions,
    examples,
    in_order,
    missing,
    named,
    needs,
    other_id,
)
from fhir_server.store import Store, Stored
from fhir_server.store.find.parameters import Parameters
from fhir_server.store.packages import drop_record, keep_record, package_records
from fhir_server.writing.checking import defined, faults
from profiles.json import decode
from profiles.outcome import FhirError, Issue
from profiles.packages import Member, Package, read_package
from profiles.validate import check
from search.params import Registry

T = TypeVar("T")

TOGETHER = 64  # resources written at once; the store sends them together

Tell = Callable[[str, int, int], None]


@dataclass(slots=True)
class Report:
    """What became of a package: how many resources were written and left as they were, and what was not loaded."""

    name: str
    version: str
    status: str = "installed"
    written: int = 0
    unchanged: int = 0
    missing: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def silent(name: str, done: int, total: int) -> None:
    """Tell nobody how far it is."""


async def install(
    raws: Sequence[bytes], context: Context, *, with_examples: bool = False, tell: Tell = silent
) -> list[Report]:
    """Install package files, each after those it depends on; FhirError, and nothing written, when one is broken."""
    context = _with(context, **FREE)
    packages = [await asyncio.to_thread(read_package, raw) for raw in raws]
    digests = {(p.name, p.version): hashlib.sha256(raw).hexdigest() for p, raw in zip(packages, raws, strict=True)}
    check_distinct(packages)
    for package in packages:
        check_release(package)
    reports = []
    for package in in_order(packages):
        known = await package_records(store_of(context))
        present = [*digests, *((record["name"], record["version"]) for record in known)]
        work = Installation(package, context, known, Report(package.name, package.version), tell)
        work.report.missing = missing(named(package), present)
        reports.append(await work.run(digests[package.name, package.version], with_examples))
    return reports


ANYBODY = Request("GET")  # a check for nobody in particular
# Who may install may write every definition, under its own id, and refer to what comes later.
FREE = {"auth": "none", "update_create": True, "referential_integrity": False}


def _with(context: Context, **settings: Any) -> Context:
    return replace(context, config=context.config.model_copy(update=settings))


def store_of(context: Context) -> Store:
    """The store; packages are not installed inside a transaction."""
    if not isinstance(context.store, Store):
        raise FhirError("not-supported", "A package is installed alone or in a batch, not in a transaction.")
    return context.store


@dataclass(slots=True)
class Installation:
    """One package on its way in; `known` are the records of all packages."""

    package: Package
    context: Context
    known: list[dict[str, Any]]
    report: Report
    tell: Tell
    names: dict[str, int] = field(default_factory=dict)

    async def run(self, digest: str, with_examples: bool) -> Report:
        """Write the definitions, then the examples, and the record before and after."""
        own = self._own()
        self.names = dict(own.get("resources", {}))
        if self.package.name in BUILT_IN:
            self.report.status = "built-in"
            return self.report
        done = own.get("status") == "installed" and own.get("digest") == digest
        if done and (own["examples"] or not with_examples):
            self.report.status, self.report.unchanged = "unchanged", len(self.names)
            return self.report
        more = with_examples or own.get("examples", False)
        await self._record(digest, more, "installing")
        if not done:
            await self._write_all(definitions(self.package), self._definition)
        if more:
            await self._know_parameters()
            await self._write_all(examples(self.package), self._example)
        await self._record(digest, more, "installed")
        await defined(store_of(self.context))
        return self.report

    async def _know_parameters(self) -> None:
        """Write what follows with the search parameters that are stored by now: their reindexing may be over."""
        registry = await Parameters(store_of(self.context), Registry.r4()).refresh()
        self.context = replace(self.context, registry=registry)

    def _own(self) -> dict[str, Any]:
        name = (self.package.name, self.package.version)
        return next((record for record in self.known if (record["name"], record["version"]) == name), {})

    async def _record(self, digest: str, with_examples: bool, status: str) -> None:
        record = {
            "name": self.package.name,
            "version": self.package.version,
            "canonical": self.package.canonical,
            "digest": digest,
            "examples": with_examples,
            "status": status,
            "at": self.context.now(),
            "dependencies": named(self.package),
            "resources": self.names,
        }
        await keep_record(store_of(self.context), record)

    async def _write_all(self, members: list[Member], write: Callable[[Member, Resource], Any]) -> None:
        for number, part in enumerate(_parts(members)):
            self.tell(self.package.name, number * TOGETHER, len(members))
            await asyncio.gather(*(self._write(member, write) for member in part))
        self.tell(self.package.name, len(members), len(members))

    async def _write(self, member: Member, write: Callable[[Member, Resource], Any]) -> None:
        """Write one resource; one with a fault is left out and reported, the others are of use without it."""
        resource = member.resource
        try:
            await write(member, resource)
        except FhirError as error:
            first = error.issues[0].text if error.issues else error.text
            more = f" (and {len(error.issues) - 1} more)" if len(error.issues) > 1 else ""
            self.report.faults.append(f"{member.path}: {first}{more}")

    async def _definition(self, member: Member, resource: Resource) -> None:
        _refuse(check(resource))
        version = str(resource.get("version", ""))
        for id in (member.id, other_id(member, version)):
            stored = await self.context.store.get(member.type, id)
            if stored is None or stored.body is None or _is_same_definition(stored, member.url, version):
                await self._put(resource | {"id": id}, stored)
                return
        raise FhirError("conflict", f"{member.type}/{member.id} exists already and is something else.")

    async def _example(self, member: Member, resource: Resource) -> None:
        _refuse(await faults(resource, member.type, ANYBODY, self.context))
        stored = await self.context.store.get(member.type, member.id)
        if stored is not None and not stored.deleted and not self._is_ours(f"{member.type}/{member.id}"):
            raise FhirError("conflict", f"{member.type}/{member.id} exists already and was left as it is.")
        await self._put(resource, stored)

    def _is_ours(self, name: str) -> bool:
        return name in self.names or any(name in record["resources"] for record in self.known)

    async def _put(self, resource: Resource, stored: Stored | None) -> None:
        kind, id = resource["resourceType"], resource["id"]
        answer = await put(resource, id, Request("PUT", (kind, id)), self.context)
        assert answer.stored is not None
        self.names[f"{kind}/{id}"] = answer.stored.version
        changed = stored is None or answer.stored.version != stored.version
        self.report.written += changed
        self.report.unchanged += not changed


def _refuse(issues: list[Issue]) -> None:
    loud = [issue for issue in issues if issue.is_error]
    if loud:
        raise FhirError.of(loud)


def _is_same_definition(stored: Stored, url: str, version: str) -> bool:
    found = decode(stored.body or b"{}")
    return isinstance(found, dict) and (found.get("url"), str(found.get("version", ""))) == (url, version)


async def installed(context: Context) -> list[dict[str, Any]]:
    """The records of all packages, with what each misses by now."""
    records = await package_records(store_of(context))
    present = [(record["name"], record["version"]) for record in records]
    return [record | {"missing": missing(record["dependencies"], present)} for record in records]


async def remove(name: str, version: str | None, context: Context) -> Report:
    """Delete what a package brought, but for what other packages share and what was changed since."""
    store = store_of(context)
    records = await package_records(store)
    found = _chosen(records, name, version)
    others = [record for record in records if record is not found]
    report = Report(name, found["version"], "removed")
    _check_unneeded(found, others)
    shared = {key for record in others for key in record["resources"]}
    own = [(key, written) for key, written in found["resources"].items() if key not in shared]
    await _remove_all(own[::-1], report, _with(context, auth="none"))
    await drop_record(store, name, found["version"])
    await defined(store)
    return report


async def _remove_all(rows: list[tuple[str, int]], report: Report, context: Context) -> None:
    """What is referred to is tried again when others are gone, for as long as that helps."""
    while rows:
        told = [
            text for part in _parts(rows) for text in await asyncio.gather(*(_remove_one(*r, context) for r in part))
        ]
        report.written += told.count(None)
        left = [row for row, text in zip(rows, told, strict=True) if text]
        if len(left) == len(rows):
            report.faults.extend(text for text in told if text)
            return
        rows = left


def _parts(rows: list[T]) -> Iterator[list[T]]:
    return (rows[start : start + TOGETHER] for start in range(0, len(rows), TOGETHER))


def _chosen(records: list[dict[str, Any]], name: str, version: str | None) -> dict[str, Any]:
    versions = [record for record in records if record["name"] == name and version in (None, record["version"])]
    if not versions:
        raise FhirError("not-found", f"The package {name}{f'#{version}' if version else ''} is not installed.")
    if len(versions) > 1:
        told = ", ".join(record["version"] for record in versions)
        raise FhirError("multiple-matches", f"{name} is installed in the versions {told}; name one: {name}#VERSION.")
    return versions[0]


def _check_unneeded(record: dict[str, Any], others: list[dict[str, Any]]) -> None:
    rest = {(other["name"], other["version"]) for other in others}
    own = (record["name"], record["version"])
    needing = [f"{o['name']}#{o['version']}" for o in others if needs(o["dependencies"], own, rest)]
    if needing:
        raise FhirError("conflict", f"{'#'.join(own)} is needed by {', '.join(needing)}; remove that first.")


async def _remove_one(key: str, written: int, context: Context) -> str | None:
    """Why it was left; "" where it had been deleted before."""
    kind, _, id = key.partition("/")
    stored = await context.store.get(kind, id)
    if stored is None or stored.deleted:
        return ""
    if stored.version != written:
        return f"{key} was changed since and was left as it is."
    try:
        await delete(Request("DELETE", (kind, id)), context)
    except FhirError as error:
        return f"{key}: {error.text}"
    return None
