"""What a reader of the database finds: no authenticator, no signing key, no password, no token; and who is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyotp
import pytest
from bson import json_util

from fhir_server.secrecy import Sealed
from fhir_server.store import Store
from fhir_server.store.auth import AuthRecords
from profiles.outcome import FhirError
from smart_auth import keys, tokens, users
from tests.attacks.test_audit import hospital as hospital
from tests.hospital import Hospital
from tests.smart_world import apps, make_world, people

pytestmark = pytest.mark.anyio


async def realm_of(store: Store, key: bytes, *, first: bool = True) -> Any:
    """A realm whose records are sealed with the key; the `first` one has people and apps."""
    world = await make_world(store)
    if first:
        await people(world)
        await apps(world)
    return replace(world.realm, records=Sealed(world.realm.records, key))


async def test_secrets_at_rest_are_sealed(store: Store) -> None:
    """The database holds no authenticator secret, private key or token in the clear; the server can use them all."""
    realm = await realm_of(store, bytes(32))
    user = await users.find(realm, "ada")
    assert user is not None
    secret, _ = await users.start_totp(realm, user)
    user = await users.find(realm, "ada")
    assert user is not None
    codes = await users.confirm_totp(realm, user, pyotp.TOTP(secret).at(realm.now()))
    assert codes is not None
    token = (await tokens.made(realm, "app", "ada", "patient/*.rs", {"patient": "P1"}))["access_token"]
    jwt = await keys.sign(realm, {"iss": realm.issuer})
    database = store.driver.database
    names = [name for name in await database.list_collection_names() if name.startswith("auth_")]
    text = "".join([json_util.dumps(await database[name].find({}).to_list()) for name in names])
    for secret_text in (secret, token, codes[0], codes[0].replace("-", ""), '"d":', '"p":'):
        assert secret_text not in text
    assert await keys.read(realm, jwt) is not None
    user = await users.find(realm, "ada")
    assert user is not None
    assert user["totp"] == secret
    assert await users.second_factor(realm, user, codes[1])


async def test_another_key_opens_nothing_and_lets_nobody_by(store: Store) -> None:
    """With another FHIR_KEY an authenticator is an error, not absent; a new signing key is made."""
    realm = await realm_of(store, bytes(32))
    user = await users.find(realm, "ada")
    assert user is not None
    await users.start_totp(realm, user)
    first = (await keys.current(realm))["key"]
    other = await realm_of(store, b"1" * 32, first=False)
    with pytest.raises(FhirError):
        await users.find(other, "ada")
    assert (await keys.current(other))["key"] != first
    plain = AuthRecords(store.driver)
    held = await plain.get("users", "ada")
    assert held is not None
    assert held["totp_next"].startswith("sealed:")
    await plain.change("users", "dora", {"totp": held["totp_next"]})
    with pytest.raises(FhirError):
        await users.find(realm, "dora")


async def test_u09_an_emergency_is_told_at_once(hospital: Hospital, capsys: Any) -> None:
    """Break-glass and replays are a warning in the log without the reason, and listed with it; a login is neither."""
    trail = hospital.context.trail
    await trail.note("break-glass", {"user": "dora", "reason": "cardiac arrest of Bell"})
    await trail.note("login", {"user": "nora", "outcome": "success"})
    told = capsys.readouterr()
    assert "break-glass" in told.out + told.err
    assert "Bell" not in told.out + told.err
    assert [(kind, details["reason"]) for _, kind, details in await trail.alarms()] == [
        ("break-glass", "cardiac arrest of Bell")
    ]
