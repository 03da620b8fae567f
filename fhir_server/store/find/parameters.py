"""SearchParameters that clients stored, and the work they leave: entries for what was written before them.

A stored SearchParameter counts for every write and search from the next look on (half a second in other workers); what
lies in the database already is written anew in the background (`store.reindex`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from fhir_server.store.records import Document, stored_of
from fhir_server.store.reindex import Job, drop, jobs, start
from fhir_server.store.store import Store
from profiles.json import decode
from profiles.model import RESOURCE_TYPES, is_a
from search.clauses import Kinds
from search.defining import LIVE, faults
from search.filters import compile
from search.params import Registry, Row, row_of

POLL = 0.5  # seconds between two looks at the stored SearchParameters
OF_PARAMETERS = "SearchParameter/"

Versions = tuple[tuple[str, int], ...]


class Parameters:
    """The registry as the stored SearchParameters make it."""

    def __init__(self, store: Store, base: Registry) -> None:
        self._store = store
        self._base = base
        self._versions: Versions = ()
        self._checked: dict[tuple[str, int], str] = {}
        self._looking = asyncio.Lock()
        self._looked = float("-inf")
        self.registry = base
        self.pending: frozenset[str] = frozenset()
        self.faults: dict[str, str] = {}

    async def current(self) -> Registry:
        """The registry, looked at anew when half a second has passed."""
        if time.monotonic() - self._looked > POLL:
            await self.refresh()
        return self.registry

    async def refresh(self) -> Registry:
        """Look at what is stored, and leave a job for each parameter that is new."""
        async with self._looking:
            self._looked = time.monotonic()
            rows = await self._store.reads.find_documents(compile(Kinds(("SearchParameter",))), projection={"v": 1})
            versions = tuple(sorted((row["_id"], row["v"]) for row in rows))
            if versions != self._versions:
                await self._take([name for name, _ in versions])
                self._versions = versions
            if versions or self.pending:
                self.pending = await self._unfinished(versions)
            return self.registry

    async def _unfinished(self, versions: Versions) -> frozenset[str]:
        """The parameters whose jobs are not done; jobs of versions that are gone are taken back."""
        left = [job for job in await jobs(self._store) if not job.finished and job.parameter]
        known = {f"{name}/{version}" for name, version in versions}
        gone = [job.name for job in left if job.name not in known]
        if gone:
            await drop(self._store, gone)
        return frozenset(job.parameter for job in left if job.name in known)

    async def _take(self, names: Sequence[str]) -> None:
        """Add each parameter that can be used, composites last; one that cannot is left out and named in `faults`."""
        rows = await self._store.reads.find_documents({"_id": {"$in": list(names)}}, sort={"_id": 1})
        found = [(row, await self._resource(row)) for row in rows]
        self.faults = {}
        registry, kept = self._base, []
        for whole in (False, True):
            part = [pair for pair in found if (pair[1].get("type") == "composite") == whole]
            usable = [pair for pair in part if self._is_usable(*pair, registry)]
            registry = registry.with_parameters([resource for _, resource in usable])
            kept += usable
        for row, resource in kept:
            await self._leave_job(registry, row, resource)
        self.registry = registry

    def _is_usable(self, row: Document, resource: Any, registry: Registry) -> bool:
        """Whether a parameter is live and without fault; worked out once for a version (2 ms), composites each time."""
        key = (row["_id"], row["v"])
        if key not in self._checked or resource.get("type") == "composite":
            issues = faults(resource, registry)
            self._checked[key] = issues[0].text if issues else ""
        if self._checked[key]:
            self.faults[row["_id"]] = self._checked[key]
        return not self._checked[key] and resource["status"] in LIVE

    async def _resource(self, row: Document) -> Any:
        stored = await self._store.fill(stored_of(row))
        return decode(stored.body or b"{}")

    def _is_written(self, registry: Registry, parameter: Row, type_name: str) -> bool:
        known = {atom.key for own in self._base.of(type_name) for atom in own.atoms}
        return set(registry.bound(parameter, type_name).keys) <= known

    async def _leave_job(self, registry: Registry, row: Document, resource: Any) -> None:
        """A job for this version of the parameter, unless R4's own write all of its values: profiles define many so."""
        parameter = row_of(resource)
        types = tuple(t for t in sorted(RESOURCE_TYPES) if any(is_a(t, b) for b in parameter.bases))
        if all(self._is_written(registry, parameter, t) for t in types):
            return
        await start(self._store, Job(f"{row['_id']}/{row['v']}", types, parameter=resource["url"]))
