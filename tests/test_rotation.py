"""docs/security.md: the master key can be exchanged, and what the old one sealed goes over to the new one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyotp
import pytest

from fhir_server.access.auditing import Trail
from fhir_server.answers.links import Seal
from fhir_server.config import Config
from fhir_server.context import Context
from fhir_server.keyring import FILE, derived, fresh, keys_of, mark
from fhir_server.rotation import rotate
from fhir_server.secrecy import MARK, Sealed
from fhir_server.store import Store
from fhir_server.store.audit import Journal
from fhir_server.store.auth import AuthRecords
from fhir_server.store.tenants import add_tenant, open_beside
from fhir_server.tenants import config_of
from profiles.outcome import FhirError
from smart_auth import chain, keys, users
from tests.shell import context_on
from tests.smart_world import make_world, people

pytestmark = pytest.mark.anyio
OLD, NEW = bytes(32), bytes(31) + b"1"
BEFORE = {"key": OLD.hex(), "auth": "smart", "base_url": "http://test/fhir"}
AFTER = {**BEFORE, "key": NEW.hex(), "old_key": OLD.hex()}


async def realm_of(store: Store, *ring: bytes) -> Any:
    world = await make_world(store)
    return replace(world.realm, records=Sealed(AuthRecords(store.driver), *ring))


@pytest.fixture
async def context(store: Store) -> Context:
    """A database of the old key: people with authenticators, a signing key, an audit trail."""
    world = await make_world(store)
    await people(world)
    realm = await realm_of(store, OLD)
    for name in ("ada", "dora"):
        user = await users.find(realm, name)
        assert user is not None
        secret, _ = await users.start_totp(realm, user)
        user = await users.find(realm, name)
        assert user is not None
        await users.confirm_totp(realm, user, pyotp.TOTP(secret).at(realm.now()))
    await keys.current(realm)
    made = context_on(store, **AFTER)
    trail = Trail(made, OLD)
    await trail.journal.prepare()
    for n in range(3):
        await trail.note("login", {"user": f"u{n}"})
    await trail.move()
    return made


async def faults(context: Context, *ring: bytes) -> list[str]:
    return [fault async for fault in Trail(context, *ring).verify()]


async def secrets(store: Store, *ring: bytes) -> list[Any]:
    """The authenticators and signing keys as these keys open them."""
    realm = await realm_of(store, *ring)
    found = [(await users.find(realm, name) or {}).get("totp") for name in ("ada", "dora")]
    return [*found, *(row["jwk"]["kid"] for row in await realm.records.find("keys", {}))]


async def test_everything_goes_over(context: Context, store: Store) -> None:
    """Secrets open with the new key alone, the chain is whole under it, old signatures are still known."""
    realm = await realm_of(store, OLD)
    token = await keys.sign(realm, {"iss": realm.issuer})
    held = await secrets(store, OLD)
    assert await rotate(context.config, context, "op") == 3
    assert await secrets(store, NEW) == held
    with pytest.raises(FhirError, match="another FHIR_KEY"):
        await secrets(store, OLD)
    assert await faults(context, NEW) == []
    assert await keys.read(await realm_of(store, NEW), token) is not None
    assert "another FHIR_KEY" in str(await told(faults(context, OLD)))
    assert await rotate(context.config, context, "op") == 0
    assert await faults(context, NEW) == []


async def told(work: Any) -> Any:
    try:
        return await work
    except FhirError as error:
        return error.text


async def test_a_rotation_that_is_cut_off_anywhere_is_carried_on(
    context: Context, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before its n-th write, for every n: both keys open everything meanwhile, and the next run finishes."""
    held = await secrets(store, OLD)
    for n in range(1, 30):
        left = n

        def write(inner: Any) -> Any:
            async def counted(*args: Any, **more: Any) -> Any:
                nonlocal left
                left -= 1
                if left == 0:
                    raise ConnectionAbortedError
                return await inner(*args, **more)

            return counted

        with monkeypatch.context() as patched:
            for owner, name in ((AuthRecords, "change"), (AuthRecords, "put"), (Journal, "append")):
                patched.setattr(owner, name, _method(write, getattr(owner, name)))
            try:
                await rotate(context.config, context, "op")
            except ConnectionAbortedError:
                cut = True
            else:
                cut = False
        assert await secrets(store, NEW, OLD) == held
        assert await faults(context, NEW, OLD) == []
        if not cut:
            break
    assert n > 4
    assert await secrets(store, NEW) == held
    assert await faults(context, NEW) == []


def _method(write: Any, inner: Any) -> Any:
    async def method(self: Any, *args: Any, **more: Any) -> Any:
        return await write(lambda *a, **m: inner(self, *a, **m))(*args, **more)

    return method


async def test_who_has_the_old_key_adds_nothing_to_the_chain(context: Context, store: Store) -> None:
    """After the rotation a link of the old key is a fault, wherever it is; so is an old part rewritten."""
    await rotate(context.config, context, "op")
    assert await faults(context, NEW) == []
    stolen = Journal(store.driver, derived((OLD,), b"audit trail")[0])
    stolen._last = await stolen.last()
    await stolen.append(chain.told([]))
    assert any("was changed" in fault for fault in await faults(context, NEW))
    last = await stolen.last()
    assert last is not None
    links: Any = store.driver.database["audit"]
    await links.delete_one({"_id": last.number})
    assert await faults(context, NEW) == []
    first = await stolen.link(1)
    assert first is not None
    forged = chain.linked(derived((OLD,), b"audit trail")[0], None, first.text.replace(b"u0", b"u9"))
    await links.update_one({"_id": 1}, {"$set": {"text": forged.text, "hash": forged.hash}})
    assert "link 2 does not follow the link before it" in await faults(context, NEW)
    await links.delete_many({"_id": {"$gt": 4}})
    assert any("not in use any more" in fault for fault in await faults(context, NEW))


async def test_an_anchor_of_the_old_key_removes_nothing(context: Context, store: Store) -> None:
    """Who has the old key and writes to the database cannot have the server remove what it holds against them."""
    await rotate(context.config, context, "op")
    stolen = Journal(store.driver, derived((OLD,), b"audit trail")[0])
    last = await stolen.last()
    assert last is not None
    stolen._last = last
    await stolen.append(chain.removed(last), cut=True)
    assert any("was changed" in fault or "missing" in fault for fault in await faults(context, NEW))
    assert (await stolen.walk())[0].number == 1


async def test_a_server_that_does_not_know_the_new_key_comes_first(context: Context, store: Store) -> None:
    """While the server runs with the old key nothing is taken from it."""
    await AuthRecords(store.driver).put("state", "base", {"url": "http://test/fhir", "master": mark(OLD)})
    with pytest.raises(FhirError, match="restart it"):
        await rotate(context.config, context, "op")
    assert len(await secrets(store, OLD)) == 3


async def test_every_tenant_goes_over(context: Context, store: Store) -> None:
    """Another tenant's secrets and trail go from the key made of the old one to that made of the new, served or not."""
    before, after = (config_of(Config(**settings), "ward") for settings in (BEFORE, AFTER))
    before, after = (
        each.model_copy(update={"database": f"{store.driver.database.name}_t_ward"}) for each in (before, after)
    )
    whole = context.config.model_copy(update={"database": store.driver.database.name})
    try:
        assert await add_tenant(store, "ward")
        beside = await open_beside(store, before.database)
        records = Sealed(AuthRecords(beside.driver), *keys_of(before))
        await records.put("state", "base", {"url": before.base, "master": mark(keys_of(before)[0])})
        await records.put("users", "wanda", {"totp": "SECRET"})
        own = replace(context_on(beside), config=before)
        trail = Trail(own, *keys_of(before))
        await trail.journal.prepare()
        await trail.note("login", {"user": "wanda"})
        assert await rotate(whole, context, "op") == 4
        [new, _] = keys_of(after)
        held = await Sealed(AuthRecords(beside.driver), new).get("users", "wanda")
        assert held is not None
        assert held["totp"] == "SECRET"
        assert await faults(own, new) == []
    finally:
        await store.driver.database.client.drop_database(before.database)


async def test_without_an_old_key_there_is_nothing_to_do(store: Store) -> None:
    """The command says how a rotation begins."""
    context = context_on(store, **BEFORE)
    with pytest.raises(FhirError, match="key new"):
        await rotate(context.config, context, "op")


async def test_a_tampered_trail_keeps_its_key(context: Context, store: Store) -> None:
    """A rotation does not bless what was changed."""
    links: Any = store.driver.database["audit"]
    await links.update_one({"_id": 2}, {"$set": {"hash": "0" * 64}})
    with pytest.raises(FhirError, match="not whole"):
        await rotate(context.config, context, "op")


async def test_page_links_of_the_old_key_open_meanwhile() -> None:
    """A link that was given out before the rotation still leads to its page; with the new key alone it does not."""
    link = Seal(OLD).close([1], "x")
    assert Seal(NEW, OLD).open(link, "x") == [1]
    assert Seal(NEW).open(Seal(NEW, OLD).close([1], "x"), "x") == [1]
    with pytest.raises(FhirError):
        Seal(NEW).open(link, "x")


async def test_the_key_file(tmp_path: Path, store: Store) -> None:
    """Without FHIR_KEY the file has the new key and the old one until the rotation is done."""
    config = Config(data=tmp_path, auth="smart")
    [old] = keys_of(config)
    fresh(config)
    assert keys_of(config)[1:] == (old,)
    with pytest.raises(FhirError, match="under way"):
        fresh(config)
    assert (tmp_path / FILE).stat().st_mode & 0o77 == 0
    new = keys_of(config)[0]
    await rotate(config, replace(context_on(store), config=config), "op")
    assert keys_of(config) == (new,)


async def test_no_secret_is_left_in_the_clear(context: Context, store: Store) -> None:
    """What is stored is sealed, the former keys of the chain too."""
    await rotate(context.config, context, "op")
    row: Any = await store.driver.database["auth_state"].find_one({"_id": "chain"})
    assert row["chain"].startswith(MARK)
