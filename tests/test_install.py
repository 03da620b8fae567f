"""Packages are installed whole, once, and removed again."""

from __future__ import annotations

import asyncio
import gzip
from base64 import b64encode
from dataclasses import replace
from typing import Any

import pytest

from fhir_server.context import Context
from fhir_server.following import registry_of
from fhir_server.store import Store, open_store
from fhir_server.store.packages import package_records
from fhir_server.writing.checking import LOOK
from tests.packing import URL, Json, codes, guide, manifest, package, parameter, profile, tgz, value_set
from tests.shell import ask, bundle_of, content, context_on, entry, text_of

pytestmark = pytest.mark.anyio

NAMED = f"{URL}/StructureDefinition/named"


def sent(*raws: bytes, **more: Any) -> Json:
    rows: list[Json] = [{"name": "npmContent", "valueBase64Binary": b64encode(raw).decode()} for raw in raws]
    return {"resourceType": "Parameters", "parameter": rows + [{"name": n, "valueBoolean": v} for n, v in more.items()]}


def told(answer: Any) -> list[Json]:
    """The packages of an answer, each by the names of its parts."""
    found = []
    for row in content(answer).get("parameter", ()):
        parts: Json = {}
        for part in row["part"]:
            value = next(v for k, v in part.items() if k.startswith("value"))
            parts[part["name"]] = [*parts[part["name"]], value] if part["name"] in parts else value
        found.append(parts)
    return found


async def install(context: Context, *raws: bytes, **more: Any) -> list[Json]:
    answer = await ask(context, "POST", "ImplementationGuide/$install", sent(*raws, **more))
    assert answer.status == 200, answer.body
    return told(answer)


async def total(context: Context, url: str) -> int:
    found = content(await ask(context, "GET", url))
    return int(found["total"])


async def test_definitions_are_searched_codes_known_profiles_enforced(context: Context, store: Store) -> None:
    """What a package defines counts from the answer on."""
    claimed = {"resourceType": "Patient", "meta": {"profile": [NAMED]}}
    assert (await ask(context, "POST", "Patient", claimed)).status == 201
    assert await install(context, guide()) == [
        {"name": "example.guide", "version": "1.0.0", "status": "installed", "written": 4, "unchanged": 0}
    ]
    assert await total(context, f"StructureDefinition?url={NAMED}") == 1
    assert await total(context, "Patient?family=lovelace") == 0
    refused = await ask(context, "POST", "Patient", claimed)
    assert (refused.status, text_of(refused)) == (422, f"Patient.name: name: at least 1 required, 0 found ({NAMED})")
    state = {"coding": [{"system": f"{URL}/CodeSystem/states", "code": "tied"}]}
    named = claimed | {"name": [{"family": "Shaw"}], "maritalStatus": state}
    assert (await ask(context, "POST", "Patient", named)).status == 201
    wrong = {"coding": [{"system": f"{URL}/CodeSystem/states", "code": "lost"}]}
    assert (await ask(context, "POST", "Patient", named | {"maritalStatus": wrong})).status == 422
    expanded = content(await ask(context, "GET", f"ValueSet/$expand?url={URL}/ValueSet/states"))
    assert [row["code"] for row in expanded["expansion"]["contains"]] == ["tied", "free"]
    assert (await registry_of(store)).lookup("Patient", "state") is not None


async def test_other_processes_know_at_once(context: Context, mongo_url: str, store: Store) -> None:
    """A profile that was unknown a moment ago is enforced everywhere, however it was written."""
    claimed = {"resourceType": "Patient", "meta": {"profile": [NAMED]}}
    row = entry("PUT", "StructureDefinition/named", profile())
    other = await open_store(mongo_url, store.driver.database.name)
    try:
        there = context_on(other)
        assert (await ask(there, "POST", "Patient", claimed)).status == 201
        for send in (
            lambda: ask(context, "PUT", "StructureDefinition/named", profile()),
            lambda: install(context, guide()),
            lambda: ask(context, "POST", "", bundle_of("transaction", row)),
            lambda: ask(context, "POST", "", bundle_of("batch", row)),
        ):
            await send()
            await asyncio.sleep(2 * LOOK)
            assert (await ask(there, "POST", "Patient", claimed)).status == 422
            await ask(context, "DELETE", "StructureDefinition/named")
            assert (await ask(context, "POST", "Patient", claimed)).status == 201
            await asyncio.sleep(2 * LOOK)
            assert (await ask(there, "POST", "Patient", claimed)).status == 201
    finally:
        await other.close()


async def test_examples_are_found_by_the_parameters_beside_them(context: Context, store: Store) -> None:
    """Their entries are written with the parameters of the package, which nothing may reindex any more."""
    bound = {"coding": [{"system": f"{URL}/CodeSystem/states", "code": "free"}]}
    ada = {"resourceType": "Patient", "id": "ada", "name": [{"family": "Lovelace"}], "maritalStatus": bound}
    await install(context, package(codes(), value_set(), parameter(), examples=(ada,)), examples=True)
    there = replace(context, registry=await registry_of(store))
    assert await total(there, "Patient?state=free") == 1


async def test_a_second_installation_changes_nothing(context: Context) -> None:
    """Neither a version nor the record; examples can follow later."""
    await install(context, guide())
    assert (await install(context, guide()))[0]["status"] == "unchanged"
    again = (await install(context, guide(), examples=True))[0]
    assert (again["status"], again["written"]) == ("installed", 1)
    assert content(await ask(context, "GET", "Patient/ada"))["meta"]["versionId"] == "1"
    assert content(await ask(context, "GET", "StructureDefinition/named"))["meta"]["versionId"] == "1"
    assert (await install(context, guide()))[0]["status"] == "unchanged"


async def test_the_package_file_itself_can_be_posted(context: Context) -> None:
    """The raw body, as application/gzip."""
    answer = await ask(context, "POST", "ImplementationGuide/$install", guide(), content_type="application/gzip")
    assert told(answer)[0]["written"] == 4
    listed = told(await ask(context, "GET", "ImplementationGuide/$installed"))
    assert [(row["name"], row["version"], row["resources"], row["examples"]) for row in listed] == [
        ("example.guide", "1.0.0", 4, False)
    ]


async def test_dependencies_come_first_and_missing_ones_are_named(context: Context) -> None:
    """Sent together in any order; what is nowhere is told with its version."""
    base = package(codes(), value_set(), name="example.codes", version="2.1.0")
    wants = {"example.codes": "2.1.x", "example.else": "3.0.0", "hl7.fhir.r4.core": "4.0.1"}
    first, second = await install(context, package(profile(), dependencies=wants), base)
    assert (first["name"], second["name"]) == ("example.codes", "example.guide")
    assert second["missing"] == "example.else#3.0.0"
    later = package(profile(), dependencies={"example.codes": "9.0.0"}, name="example.later")
    assert (await install(context, later))[0]["missing"] == "example.codes#9.0.0 (2.1.0 is there)"


async def test_versions_stand_side_by_side(context: Context) -> None:
    """The second version gets ids of its own; without a version the later one is meant."""
    two = profile(version="2.0.0")
    two["differential"]["element"][1]["max"] = "1"
    await install(context, package(two, version="2.0.0"))
    await install(context, package(profile(), version="1.0.0"))
    found = content(await ask(context, "GET", f"StructureDefinition?url={NAMED}&_sort=version"))
    assert [row["resource"]["version"] for row in found["entry"]] == ["1.0.0", "2.0.0"]
    twice = {"resourceType": "Patient", "name": [{"family": "A"}, {"family": "B"}]}
    for claim, status in ((NAMED, 400), (f"{NAMED}|1.0.0", 201), (f"{NAMED}|2.0.0", 400)):
        assert (await ask(context, "POST", "Patient", twice | {"meta": {"profile": [claim]}})).status == status, claim
    unclear = await ask(context, "POST", "ImplementationGuide/$uninstall?name=example.guide")
    assert text_of(unclear).startswith("example.guide is installed in the versions 1.0.0, 2.0.0; name one")
    gone = await ask(context, "POST", "ImplementationGuide/$uninstall?name=example.guide&version=2.0.0")
    assert told(gone)[0]["written"] == 1
    claim = twice | {"meta": {"profile": [NAMED]}}
    assert (await ask(context, "POST", "Patient", claim)).status == 201


async def test_what_is_removed_is_what_nobody_else_needs(context: Context) -> None:
    """Resources of other packages and changed ones stay; a package that is needed stays whole."""
    await install(context, package(codes(), name="example.codes"))
    await install(context, package(codes(), profile(), value_set(), dependencies={"example.codes": "1.0.0"}))
    kept = await ask(context, "POST", "ImplementationGuide/$uninstall?name=example.codes")
    assert (kept.status, text_of(kept)) == (
        409,
        "example.codes#1.0.0 is needed by example.guide#1.0.0; remove that first.",
    )
    changed = content(await ask(context, "GET", "ValueSet/states")) | {"title": "Ours"}
    assert (await ask(context, "PUT", "ValueSet/states", changed)).status == 200
    gone = told(await ask(context, "POST", "ImplementationGuide/$uninstall?name=example.guide"))[0]
    assert (gone["written"], gone["fault"]) == (1, "ValueSet/states was changed since and was left as it is.")
    assert (await ask(context, "GET", "StructureDefinition/named")).status == 410
    assert (await ask(context, "GET", "CodeSystem/states")).status == 200
    unknown = await ask(context, "POST", "ImplementationGuide/$uninstall?name=example.guide")
    assert (unknown.status, text_of(unknown)) == (404, "The package example.guide is not installed.")


async def test_what_is_referred_to_goes_last(store: Store) -> None:
    """References are enforced on a removal too, whatever the order of the examples."""
    context = context_on(store, referential_integrity=True)
    visit = {
        "resourceType": "Encounter",
        "id": "a",
        "status": "finished",
        "class": {"code": "AMB"},
        "subject": {"reference": "Patient/b"},
    }
    await install(context, package(examples=(visit, {"resourceType": "Patient", "id": "b"})), examples=True)
    assert told(await ask(context, "POST", "ImplementationGuide/$uninstall?name=example.guide"))[0]["written"] == 2


async def test_what_was_there_before_is_left_alone(context: Context) -> None:
    """An example does not take the place of somebody's patient; the rest of the package is loaded."""
    mine = {"resourceType": "Patient", "id": "ada", "name": [{"family": "King"}]}
    await ask(context, "PUT", "Patient/ada", mine)
    report = (await install(context, guide(), examples=True))[0]
    assert report["fault"] == ("package/example/Patient-ada.json: Patient/ada exists already and was left as it is.")
    assert content(await ask(context, "GET", "Patient/ada"))["name"][0]["family"] == "King"


async def test_a_resource_with_a_fault_is_left_out_and_told(context: Context) -> None:
    """The others are of use without it."""
    report = (await install(context, package(profile(), codes() | {"status": "great"})))[0]
    assert (report["written"], report["fault"].partition(": ")[0]) == (1, "package/CodeSystem-states.json")


async def test_two_at_once_are_one(context: Context) -> None:
    """The same package, twice at the same time."""
    await asyncio.gather(install(context, guide()), install(context, guide()))
    assert content(await ask(context, "GET", "StructureDefinition/named"))["meta"]["versionId"] == "1"
    assert len(told(await ask(context, "GET", "ImplementationGuide/$installed"))) == 1


TEXT = {
    "not gzipped": (b"no package", "The package is not gzipped"),
    "no tar": (gzip.compress(b"no tar"), "no readable tar file"),
    "no manifest": (tgz({"package/a.json": b"{}"}), "package/package.json is missing"),
    "manifest": (tgz({"package/package.json": b"{nope"}), "package/package.json: "),
    "traversal": (guide()[:0] + tgz({"package/../../x.json": b"{}"}), "leads outside"),
    "link": (tgz({}, "package/x.json"), "link or device"),
    "release": (package(profile(), fhirVersions=["5.0.0"]), "is for FHIR 5.0.0; this server has R4"),
    "bad JSON": (
        tgz({"package/package.json": b'{"name":"a","version":"1"}', "package/x.json": b"{"}),
        "package/x.json",
    ),
    "bomb": (tgz({"package/bomb.json": b" " * 30_000_000}), "unpacks to more than"),
    "twice": (package(profile(), examples=(profile(),)), "are both StructureDefinition/named"),
}


@pytest.mark.parametrize(("raw", "text"), TEXT.values(), ids=TEXT)
async def test_a_broken_package_leaves_nothing_behind(context: Context, store: Store, raw: bytes, text: str) -> None:
    """Beside a good one, which is not installed either."""
    good = package(codes(), name="example.codes")
    for rows in (sent(raw), sent(good, raw), sent(raw, good)):
        answer = await ask(context, "POST", "ImplementationGuide/$install", rows)
        assert (answer.status in (400, 413), text in text_of(answer)) == (True, True), answer.body
    assert await package_records(store) == []
    assert await total(context, "") == 0


@pytest.mark.parametrize(
    ("resource", "text"),
    [
        ({"resourceType": "Parameters"}, "$install needs the parameter npmContent."),
        ({"resourceType": "Parameters", "parameter": [{"name": "npmContent", "valueBase64Binary": "!"}]}, "npmContent"),
        (sent(guide(), guide()), "example.guide#1.0.0 is sent twice."),
        (sent(guide()) | {"parameter": [{"name": "url", "valueUri": "http://x"}]}, "has no parameter url"),
    ],
)
async def test_what_is_asked_wrongly_is_named(context: Context, resource: Json, text: str) -> None:
    """The parameter at fault, as 400."""
    answer = await ask(context, "POST", "ImplementationGuide/$install", resource)
    assert (answer.status, text in text_of(answer)) == (400, True), answer.body


async def test_a_package_comes_in_a_bundle(context: Context) -> None:
    """An entry like others."""
    row = entry("POST", "ImplementationGuide/$install", sent(guide()))
    answer = content(await ask(context, "POST", "", bundle_of("batch", row)))
    assert answer["entry"][0]["response"]["status"].startswith("200")


async def test_nothing_is_fetched_from_where_a_manifest_points(context: Context) -> None:
    """Offline: a dependency by url is missing, and no more."""
    raw = tgz(
        {"package/package.json": str(manifest(dependencies={"x": "http://127.0.0.1:1/x"})).replace("'", '"').encode()}
    )
    assert (await install(context, raw))[0]["missing"] == "x#http://127.0.0.1:1/x"
