"""Real bundles that nobody here wrote: all load, all are counted, and each resource reads back as it was sent."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fhir_server.config import Config
from fhir_server.context import Context
from fhir_server.loading.answers import Answer, Message
from fhir_server.loading.direct import Direct
from fhir_server.loading.files import find
from fhir_server.loading.journal import Kept
from fhir_server.loading.run import Load
from fhir_server.opening import open_context
from fhir_server.store import Store
from search.params import TYPE_CODES

pytestmark = pytest.mark.anyio

SHARED = Path(os.environ.get("FHIR_SHARED") or Path(__file__).parents[2] / "shared")
SYNTHEA = SHARED / "data" / "synthea"
needed = pytest.mark.skipif(not (SYNTHEA / "counts.json").exists(), reason=f"no Synthea bundles in {SYNTHEA}")

URN = re.compile(rb"urn:uuid:[0-9a-f-]{36}")
DECODE = msgspec.json.Decoder(float_hook=lambda digits: f"decimal {digits}").decode


class Watched(Direct):
    """The interactions of this process; what a transaction stored is read back and compared at once."""

    def __init__(self, context: Context, store: Store) -> None:
        super().__init__(context)
        self.store = store
        self.types = Counter[str]()
        self.different: list[str] = []

    async def send(self, message: Message) -> Answer:
        """The answer, once everything that it names has been read."""
        answer = await super().send(message)
        if answer.status == 200:
            await self.compare(message.body, answer.body)
        return answer

    async def compare(self, sent: bytes, answered: bytes) -> None:
        """Compare each entry with what is stored under the location that the answer gives it."""
        entries = DECODE(sent)["entry"]
        locations = [row["response"]["location"].split("/")[-4:-2] for row in DECODE(answered)["entry"]]
        names = {
            row["fullUrl"].encode(): "/".join(place).encode() for row, place in zip(entries, locations, strict=True)
        }
        rewritten = DECODE(URN.sub(lambda found: names.get(found[0], found[0]), sent))["entry"]
        for row, (type, id) in zip(rewritten, locations, strict=True):
            stored = await self.store.get(type, id)
            assert stored is not None and stored.body is not None
            self.types[type] += 1
            if own(row["resource"]) != own(DECODE(stored.body)):
                self.different.append(f"{type}/{id}")


def own(resource: dict[str, Any]) -> dict[str, Any]:
    """What the sender wrote: without id and meta."""
    return {name: value for name, value in resource.items() if name not in ("id", "meta")}


@needed
@pytest.mark.parametrize("number", [6, pytest.param(120, marks=pytest.mark.slow)])
async def test_synthea_loads_and_reads_back(mongo_url: str, database: str, tmp_path: Path, number: int) -> None:
    """No error; counts per type as in the files; equal with decimals as text, but for id, meta and references."""
    files, _ = find([SYNTHEA / f"bundle-{n:03}.json.gz" for n in range(number)])
    config = Config(mongo=mongo_url, database=database, data=tmp_path)
    async with AsyncExitStack() as stack:
        context = await open_context(config, stack)
        assert isinstance(context.store, Store)
        target = Watched(context, context.store)
        report = await Load(target, Kept(context.store), 3, lambda report: None).run(files)
        assert report.faults == []
        assert target.different == []
        assert report.loaded == sum(target.types.values())
        stored = Counter({type: await context.store.reads.count({"s": TYPE_CODES[type]}) for type in target.types})
        assert stored == target.types
    if number == 120:
        counts = json.loads((SYNTHEA / "counts.json").read_text())
        assert (report.loaded, dict(target.types)) == (counts["entries"], counts["types"])
