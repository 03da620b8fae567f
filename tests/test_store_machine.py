"""A state machine against a dictionary: create, update, delete, versions and history agree after any sequence."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from fhir_server.store import New, Store, Stored, instant, open_store
from fhir_server.store.transaction import Transaction
from profiles.outcome import FhirError

START = datetime(2024, 1, 1, tzinfo=UTC)
RUNS = itertools.count()
IDS = st.sampled_from(["a", "b", "a-b"])
# Clocks stand still and go back; instants do not.
STEPS = st.integers(min_value=-2, max_value=3)


class Versions(RuleBasedStateMachine):
    """The model is a list of bodies per id; None is a delete."""

    loop: asyncio.AbstractEventLoop
    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.kind = f"Type{next(RUNS)}"
        self.model: dict[str, list[bytes | None]] = {}
        self.now = START

    def new(self, id: str, version: int, after: Stored | None, body: bytes | None) -> New:
        method = "DELETE" if body is None else "PUT"
        entries = () if body is None else (self.kind,)
        return New(self.kind, id, version, instant(self.now, after), body, entries, "", method)

    async def write(self, store: Store | Transaction, id: str, body: bytes | None) -> None:
        current = await store.get(self.kind, id)
        if current is None:
            await store.create(self.new(id, 1, None, body or b""))
        else:
            await store.replace(self.new(id, current.version + 1, current, body), current)

    @rule(ids=st.sets(IDS, min_size=1), body=st.binary(max_size=4), step=STEPS, together=st.booleans())
    def put(self, ids: set[str], body: bytes, step: int, together: bool) -> None:
        """Write some resources, alone or in one transaction."""
        self.now += timedelta(milliseconds=step)

        async def work(tx: Transaction) -> None:
            for id in ids:
                await self.write(tx, id, body)

        async def alone() -> None:
            await asyncio.gather(*(self.write(self.store, id, body) for id in ids))

        self.loop.run_until_complete(self.store.transaction(work) if together else alone())
        for id in ids:
            self.model.setdefault(id, []).append(body)

    @rule(id=IDS)
    def delete(self, id: str) -> None:
        """Delete a resource that is there."""
        if self.model.get(id, [None])[-1] is not None:
            self.loop.run_until_complete(self.write(self.store, id, None))
            self.model[id].append(None)

    @rule(id=IDS, behind=st.integers(min_value=1, max_value=3))
    def overtaken(self, id: str, behind: int) -> None:
        """A write over another version than the current one is refused."""
        version = len(self.model.get(id, ())) - behind
        try:
            self.loop.run_until_complete(self.store.replace(self.new(id, version + 1, None, b"no"), version))
        except FhirError as error:
            assert error.code == "conflict"
        else:
            raise AssertionError("the guard did not hold")

    @invariant()
    def agree(self) -> None:
        self.loop.run_until_complete(self.compare())

    async def compare(self) -> None:
        listed = []
        for id, bodies in self.model.items():
            current = await self.store.get(self.kind, id)
            assert current is not None and (current.version, current.body) == (len(bodies), bodies[-1])
            page = await self.store.history(self.kind, id, count=100)
            assert [stored.body for stored in page.versions] == bodies[::-1]
            assert page.total == len(bodies)
            listed += [(id, version) for version in range(1, len(bodies) + 1)]
        page = await self.store.history(self.kind, count=1000)
        assert sorted((stored.id, stored.version) for stored in page.versions) == sorted(listed)
        alive = sum(bodies[-1] is not None for bodies in self.model.values())
        assert await self.store.reads.count({"s": self.kind}) == alive


def test_any_sequence_of_writes(mongo_url: str, database: str) -> None:
    """What the store answers is what a dictionary would."""
    with asyncio.Runner() as runner:
        Versions.loop = runner.get_loop()
        Versions.store = runner.run(open_store(mongo_url, database))
        try:
            steps = settings(max_examples=15, stateful_step_count=15, deadline=None, derandomize=True)
            run_state_machine_as_test(Versions, settings=steps)
        finally:
            runner.run(Versions.store.close())
