"""The strongest test: what a caller is answered is what a server that holds nothing else would answer.

For each caller the resources that the caller may see are worked out here, by a few lines that share nothing with the
gate. They are put into a second, open server; every request must be answered alike by both: status, entries in their
order and mode, totals, pages.
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from fhir_server.access.gate import Caller
from fhir_server.store import open_store
from profiles.json import encode, parse
from tests.hospital import LAB, RESTRICTED, VITAL, Hospital, condition, encounter, observation, open_hospital, reference
from tests.shell import bundle_of, entry

pytestmark = pytest.mark.anyio

Resource = dict[str, Any]
PATIENTS = ("P1", "P2", "P3")
SEED = int(os.environ.get("FHIR_SEED", "0")) * 1_000
CODES = ("a", "b", "c")
SHARED = ("Practitioner", "Organization")
LAB_TOKEN = "http://terminology.hl7.org/CodeSystem/observation-category|laboratory"
HIV = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "HIV"}


def generate(seed: int) -> list[Resource]:
    """A hospital of three patients with observations, conditions and encounters that refer to each other at random."""
    luck = random.Random(seed)
    staff = [f"Practitioner/D{n}" for n in range(3)]
    rows: list[Resource] = [
        {"resourceType": "Practitioner", "id": name[13:], "name": [{"family": name}]} for name in staff
    ]
    rows += [{"resourceType": "Organization", "id": f"O{n}", "name": f"Ward {n}"} for n in range(2)]
    for number, name in enumerate(PATIENTS):
        rows.append(
            {
                "resourceType": "Patient",
                "id": name,
                "name": [{"family": luck.choice(["Bell", "Shaw"])}],
                "birthDate": f"19{70 + number}-01-01",
                "managingOrganization": reference(f"Organization/O{luck.randrange(2)}"),
                "generalPractitioner": [reference(luck.choice(staff))],
            }
        )
    for number in range(24):
        owner = f"Patient/{luck.choice(PATIENTS)}"
        more: Resource = {"performer": [reference(luck.choice(staff))], "category": [luck.choice([LAB, VITAL])]}
        more["effectiveDateTime"] = f"2026-0{luck.randrange(1, 9)}-1{luck.randrange(9)}"
        if number and luck.random() < 0.5:
            more["hasMember"] = [reference(f"Observation/o{luck.randrange(number)}")]
        if luck.random() < 0.4:
            more["encounter"] = reference(f"Encounter/e{luck.randrange(6)}")
        if luck.random() < 0.3:
            more["meta"] = {"security": [luck.choice([RESTRICTED, HIV])]}
        if luck.random() < 0.1:
            more["performer"] = [reference(f"Patient/{luck.choice(PATIENTS)}")]
        rows.append(observation(f"o{number}", owner, luck.choice(CODES), **more))
    for number in range(10):
        codes = {"code": {"coding": [{"system": "http://x", "code": luck.choice(CODES)}]}}
        rows.append(condition(f"c{number}", f"Patient/{luck.choice(PATIENTS)}", **codes))
    for number in range(2):
        items = [{"item": reference(f"Observation/o{luck.randrange(24)}")} for _ in range(6)]
        own = {"status": "current", "mode": "working", "subject": reference(f"Patient/{luck.choice(PATIENTS)}")}
        rows.append({"resourceType": "List", "id": f"l{number}", **own, "entry": items})
    rows += [encounter(f"e{number}", f"Patient/{luck.choice(PATIENTS)}") for number in range(6)]
    return rows


def owner(resource: Resource) -> str:
    if resource["resourceType"] == "Patient":
        return f"Patient/{resource['id']}"
    return str(resource.get("subject", {}).get("reference", ""))


def labels(resource: Resource) -> set[str]:
    return {label["code"] for label in resource.get("meta", {}).get("security", ())}


def is_lab(resource: Resource) -> bool:
    return LAB in resource.get("category", ())


Sees = Callable[[Resource], bool]


def of_p1(resource: Resource) -> bool:
    return owner(resource) == "Patient/P1" or resource["resourceType"] in SHARED


CALLERS: dict[str, tuple[Callable[[Hospital], Caller], Sees]] = {
    "an app of P1": (lambda h: h.app(), of_p1),
    "the patient P1": (lambda h: h.patient("user/*.cruds"), of_p1),
    "a narrow app of P1": (
        lambda h: h.app(f"patient/Observation.rs?category={LAB_TOKEN} patient/Patient.rs patient/Practitioner.rs"),
        lambda r: of_p1(r) and (r["resourceType"] in ("Patient", "Practitioner") or is_lab(r)),
    ),
    "a nurse": (lambda h: h.nurse, lambda r: not labels(r)),
    "a doctor": (lambda h: h.doctor, lambda r: True),
    "a lab technician": (
        lambda h: h.caller("user/*.cruds", "Lab technician", user="t"),
        lambda r: not labels(r) and (r["resourceType"] in ("Patient", *SHARED) or is_lab(r)),
    ),
    "a backend for conditions": (
        lambda h: h.caller("system/Condition.rs system/Patient.rs", "System"),
        lambda r: r["resourceType"] in ("Condition", "Patient"),
    ),
}

PARAMETERS: dict[str, tuple[str, ...]] = {
    "Observation": (
        "code=a",
        "code=b,c",
        "code:not=a",
        f"category={LAB_TOKEN}",
        "subject=Patient/P2",
        "patient=P1,P2",
        "date=ge2026-04",
        "subject:Patient.family=Bell",
        "has-member.code=a",
        "encounter:missing=true",
        "has-member:missing=false",
        "performer:Practitioner.family:contains=1",
        "encounter.class=AMB",
        "subject:Patient.organization.name=Ward 1",
        "_security:not=http://terminology.hl7.org/CodeSystem/v3-Confidentiality|R",
        "_id=o1,o2,o3,o4,o5,o6",
        "_has:Observation:has-member:code=b",
        "_lastUpdated=gt2000-01-01",
        "_filter=code eq a or code eq b",
        "_filter=subject.family eq Bell",
        "_filter=not (performer.family eq D1)",
        "_list=l0",
        "_list=l1",
        "has-member.has-member.code=c",
        "subject.general-practitioner.family=D1",
        "_has:Observation:has-member:_has:Observation:has-member:code=a",
        "subject:Patient._has:Condition:patient:code=b",
    ),
    "Condition": ("code=a", "subject:Patient.family=Shaw", "patient.birthdate=1971-01-01", "code:not=b", "_id=c1,c2"),
    "Patient": (
        "family=Bell",
        "birthdate=ge1971",
        "_has:Observation:patient:code=b",
        "_has:Condition:patient:code=a",
        "organization.name=Ward 0",
        "_has:Observation:subject:_has:Observation:has-member:code=a",
        "general-practitioner.family:contains=2",
        "_filter=family eq Bell",
        "_has:Encounter:patient:_has:Observation:encounter:code=a",
        "_has:List:subject:_id=l1",
    ),
    "Encounter": ("subject:Patient.family=Bell", "patient=P3", "class=AMB", "_has:Observation:encounter:code=c"),
    "Practitioner": ("_has:Observation:performer:code=a", "_has:Patient:general-practitioner:family=Shaw"),
    "Organization": (
        "_has:Patient:organization:birthdate=gt1970-06",
        "_has:Patient:organization:_has:Condition:patient:code=b",
    ),
}
EXTRAS: dict[str, tuple[str, ...]] = {
    "Observation": (
        "_include=Observation:subject",
        "_include=*",
        "_include:iterate=Observation:has-member",
        "_revinclude=Observation:has-member",
        "_revinclude=List:item",
        "_revinclude:iterate=Observation:has-member&_include:iterate=Observation:performer",
    ),
    "Condition": ("_include=Condition:subject", "_revinclude=Observation:focus"),
    "Patient": (
        "_revinclude=Observation:subject",
        "_include=Patient:organization",
        "_revinclude=*",
        "_revinclude=Condition:patient",
    ),
    "Encounter": ("_revinclude=Observation:encounter", "_include=Encounter:subject"),
    "Practitioner": ("_revinclude=Observation:performer",),
    "Organization": (
        "_revinclude=Patient:organization",
        "_revinclude=Patient:organization&_revinclude:iterate=Observation:patient",
    ),
}
SORTS = {
    "Observation": ("date", "-date", "code", "-_id", "code,-date"),
    "Patient": ("family", "-birthdate"),
    "Condition": ("-code",),
}


def searches(luck: random.Random) -> str:
    """A search at random: criteria, includes, order, page size, total."""
    kind = luck.choice(list(PARAMETERS))
    parts = luck.sample(PARAMETERS[kind], luck.choice([0, 1, 1, 2]))
    parts += luck.sample(EXTRAS[kind], luck.choice([0, 0, 1]))
    if kind in SORTS and luck.random() < 0.5:
        parts.append(f"_sort={luck.choice(SORTS[kind])}")
    parts.append(f"_count={luck.choice([2, 5, 50])}")
    parts += luck.sample(["_total=accurate", "_summary=count", "_total=none"], luck.choice([0, 1]))
    if luck.random() < 0.1:
        return f"Patient/{luck.choice(PATIENTS)}/{luck.choice(['Observation', 'Condition', '*'])}?_count=50"
    if luck.random() < 0.1:
        return f"?_type=Patient,Observation,Condition&_count={luck.choice([3, 50])}&_total=accurate"
    return f"{kind}?{'&'.join(parts)}"


async def seen(hospital: Hospital, caller: Caller | None, url: str) -> list[Any]:
    """Everything that an answer tells: status, then for each page its entries, total and relations."""
    told: list[Any] = []
    while url:
        answer = await hospital.ask(caller, "GET", url)
        told.append(answer.status)
        if answer.status != 200:
            return told
        bundle: Any = parse(answer.body)
        entries = [(row["search"]["mode"], row["fullUrl"]) for row in bundle.get("entry", ()) if "fullUrl" in row]
        matches = [row for row in entries if row[0] == "match"]
        relations = sorted(link["relation"] for link in bundle.get("link", ()))
        told += [matches, sorted(row for row in entries if row[0] != "match"), bundle.get("total"), relations]
        url = next((link["url"] for link in bundle.get("link", ()) if link["relation"] == "next"), "")
    return told


def is_unasked(mine: Any, theirs: Any, url: str) -> bool:
    """A total that nobody asked for is told where the way the search went knows it for nothing."""
    return "_total=accurate" not in url and None in (mine, theirs) and isinstance(mine or theirs, int)


@pytest.fixture
async def second(mongo_url: str, database: str) -> AsyncIterator[Any]:
    """A further empty store for the open server."""
    from pymongo import MongoClient

    opened = await open_store(mongo_url, f"{database}_b")
    yield opened
    await opened.close()
    with MongoClient(mongo_url) as client:
        client.drop_database(f"{database}_b")


@pytest.mark.parametrize("name", CALLERS)
async def test_metamorphic_oracle(store: Any, second: Any, name: str) -> None:
    """answer(r, t) on all data equals answer(r, admin) on what t may see, for random data and requests.

    FHIR_SEED makes other data and requests.
    """
    seed = sum(map(ord, name)) + SEED
    make, sees = CALLERS[name]
    everything = generate(seed)
    full = await open_hospital(store, everything)
    part = await open_hospital(second, [resource for resource in everything if sees(resource)])
    caller, luck = make(full), random.Random(seed)
    checked = 0
    for _ in range(120):
        url = searches(luck)
        mine = await seen(full, caller, url)
        if mine[0] == 403:
            continue
        theirs = await seen(part, part.admin, url)
        assert len(mine) == len(theirs), (name, url)
        assert all(a == b or is_unasked(a, b, url) for a, b in zip(mine, theirs, strict=True)), (name, url)
        checked += 1
    assert checked > 25
    for resource in everything:
        path = f"{resource['resourceType']}/{resource['id']}"
        kinds = {200} if sees(resource) else {403, 404}
        if resource["resourceType"] in ("Patient", "Observation", "Condition"):
            assert (await full.ask(caller, "GET", path)).status in kinds, path
            assert (await full.ask(caller, "GET", f"{path}/_history/1")).status in kinds, path


@pytest.mark.parametrize("name", CALLERS)
async def test_metamorphic_oracle_of_batches(store: Any, second: Any, name: str) -> None:
    """A batch of reads and searches is answered as on a server that holds only what the caller may see."""
    seed = 7 + sum(map(ord, name))
    make, sees = CALLERS[name]
    everything = generate(seed)
    full = await open_hospital(store, everything)
    part = await open_hospital(second, [resource for resource in everything if sees(resource)])
    caller, luck = make(full), random.Random(seed)
    rows = [entry("GET", searches(luck)) for _ in range(30)]
    rows += [entry("GET", f"{r['resourceType']}/{r['id']}") for r in luck.sample(everything, 20)]
    answers = []
    for hospital, who in ((full, caller), (part, part.admin)):
        answer = await hospital.ask(who, "POST", "", bundle_of("batch", *rows))
        answers.append([told(row) for row in parse(answer.body)["entry"]])  # type: ignore[call-overload, index]
    for mine, theirs, row in zip(*answers, rows, strict=True):
        same = mine == theirs or is_unasked(mine[1][1], theirs[1][1], row["request"]["url"])
        assert mine[0] == "403" or (same and mine[1][0] == theirs[1][0])
    assert encode({"n": sum(mine[0] == "200" for mine in answers[0])}) != b'{"n":0}'


def told(row: Any) -> tuple[str, Any]:
    """Status and ids of one entry of a batch-response."""
    found = row.get("resource", {})
    entries = [(each["search"]["mode"], each["fullUrl"]) for each in found.get("entry", ()) if "fullUrl" in each]
    return row["response"]["status"][:3], (
        sorted(entries),
        found.get("total"),
        found.get("id") if not entries and found.get("resourceType") != "Bundle" else "",
    )
