"""docs/security.md J: attacks on client assertions and keys, each with its rightful twin (SMART Backend Services)."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import os
import resource as memory
import time
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, RSAKey

from fhir_server.store import Store
from smart_auth import clients, keys, principals
from smart_auth.realm import Fetched
from tests.smart_world import (
    APP,
    AUTH,
    BACKEND,
    EC,
    JWKS,
    JWKS_URI,
    RSA,
    World,
    apps,
    asserted,
    assertion,
    make_world,
    people,
)

pytestmark = pytest.mark.anyio
STRANGER = ECKey.generate_key("P-384", {"kid": "ec1"})


@pytest.fixture
async def world(store: Store) -> World:
    made = await make_world(store)
    await apps(made)
    return made


async def ask(world: World, text: str, **more: str) -> tuple[int, dict[str, Any]]:
    browser = world.browser()
    answer = await browser.http.post("/auth/token", data=asserted(text, **more))
    return answer.status_code, answer.json()


async def refused(world: World, text: str) -> None:
    status, found = await ask(world, text)
    assert (status, found["error"]) == (401, "invalid_client"), found


@pytest.mark.parametrize(("key", "alg"), [(EC, "ES384"), (RSA, "RS384")])
async def test_backend_services_token(world: World, key: Any, alg: str) -> None:
    """Backend Services: RS384 and ES384 assertions give a bearer token of at most 300 seconds and no refresh token."""
    status, found = await ask(world, assertion(world, "backend", key, alg))
    assert status == 200
    assert found.keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert found["token_type"].lower() == "bearer"
    assert found["expires_in"] <= 300
    assert found["scope"] == "system/*.rs"


def unsigned(world: World, alg: str) -> str:
    good = assertion(world, "backend").split(".")
    header = (
        base64.urlsafe_b64encode(json.dumps({"alg": alg, "typ": "JWT", "kid": "ec1"}).encode()).decode().rstrip("=")
    )
    return f"{header}.{good[1]}."


async def test_j01_no_algorithm_and_no_signature(world: World) -> None:
    """alg none in any spelling, and an empty signature, are refused."""
    for alg in ("none", "nOnE", "", "ES384"):
        await refused(world, unsigned(world, alg))


async def test_j02_symmetric_confusion(world: World) -> None:
    """An HMAC keyed with the public key is refused."""
    now = int(world.clock().timestamp())
    claims = {"iss": "backend", "sub": "backend", "aud": f"{AUTH}/token", "exp": now + 100, "jti": "x"}
    text = f"{_b64({'alg': 'HS384', 'kid': 'ec1', 'typ': 'JWT'})}.{_b64(claims)}"
    mac = hmac.digest(EC.as_pem(private=False), text.encode(), "sha384")
    await refused(world, f"{text}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}")


async def test_j03_other_algorithms(world: World) -> None:
    """RS256 and PS384 are refused though the key fits."""
    await refused(world, assertion(world, "backend", RSA, "RS256"))
    await refused(world, assertion(world, "backend", RSA, "PS384"))


async def test_j04_another_key_and_a_changed_claim(world: World) -> None:
    """A stranger's key with the right kid, and a claim changed after signing, are refused."""
    await refused(world, assertion(world, "backend", STRANGER))
    head, body, signature = assertion(world, "backend").split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    changed = base64.urlsafe_b64encode(json.dumps({**claims, "jti": "other"}).encode()).decode().rstrip("=")
    await refused(world, f"{head}.{changed}.{signature}")


async def test_j05_jku_must_be_the_registered_one(world: World) -> None:
    """A jku that is not registered is not fetched; the registered one is."""
    await clients.save(world.realm, "linked", {**BACKEND, "jwks": None, "jwks_uri": JWKS_URI})
    world.web[JWKS_URI] = Fetched(200, {}, json.dumps(JWKS).encode())
    await refused(world, assertion(world, "linked", header={"jku": "http://127.0.0.1:9/jwks"}))
    await refused(world, assertion(world, "backend", header={"jku": JWKS_URI}))
    assert world.fetched == []
    assert (await ask(world, assertion(world, "linked", header={"jku": JWKS_URI})))[0] == 200
    assert (await ask(world, assertion(world, "linked")))[0] == 200
    assert world.fetched == [JWKS_URI]


async def test_j07_keys_in_the_header_are_not_believed(world: World) -> None:
    """jwk, x5u and x5c of the attacker change nothing: the registered key decides."""
    inside = {"jwk": STRANGER.as_dict(private=False), "x5u": "http://127.0.0.1:9/", "x5c": ["AAAA"]}
    for name, value in inside.items():
        text = _signed_with_header(world, STRANGER, {name: value})
        await refused(world, text)
    assert world.fetched == []


def _signed_with_header(world: World, key: ECKey, more: dict[str, Any]) -> str:
    now = int(world.clock().timestamp())
    claims = {"iss": "backend", "sub": "backend", "aud": f"{AUTH}/token", "exp": now + 100, "jti": os.urandom(9).hex()}
    text = f"{_b64({'alg': 'ES384', 'kid': 'ec1', 'typ': 'JWT', **more})}.{_b64(claims)}"
    r, s = decode_dss_signature(key.private_key.sign(text.encode(), ECDSA(SHA384())))
    return f"{text}.{base64.urlsafe_b64encode(r.to_bytes(48) + s.to_bytes(48)).decode().rstrip('=')}"


def _b64(fields: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")


async def test_j09_exactly_one_key_must_match(world: World) -> None:
    """Two keys with one kid, a kid of another type of key, and no such kid fail; one match passes."""
    twice = {"keys": [EC.as_dict(private=False), STRANGER.as_dict(private=False)]}
    await world.realm.records.change("clients", "backend", {"jwks": twice})
    await refused(world, assertion(world, "backend"))
    await world.realm.records.change("clients", "backend", {"jwks": JWKS})
    await refused(world, assertion(world, "backend", header={"kid": "rsa1"}))
    await refused(world, assertion(world, "backend", header={"kid": "nothing"}))
    await refused(world, assertion(world, "backend", header={"kid": None}))
    assert (await ask(world, assertion(world, "backend")))[0] == 200


async def test_j11_critical_headers(world: World) -> None:
    """crit names what we do not know, b64 false too: refused."""
    await refused(world, _signed_with_header(world, EC, {"crit": ["bork"], "bork": 1}))
    await refused(world, _signed_with_header(world, EC, {"crit": ["b64"], "b64": False}))
    assert (await ask(world, _signed_with_header(world, EC, {})))[0] == 200


@pytest.mark.parametrize(
    ("claims", "fine"),
    [
        ({"exp": 0}, False),
        ({"exp": -1}, False),
        ({"exp": 301}, False),
        ({"exp": 300}, True),
        ({"nbf": 600}, False),
        ({"iat": 600}, False),
        ({"nbf": 30, "iat": 30}, True),
        ({"nbf": -600, "iat": -600}, True),
    ],
)
async def test_j13_times(world: World, claims: dict[str, int], fine: bool) -> None:
    """exp SHALL be no more than five minutes in the future; nbf and iat at most one minute."""
    now = int(world.clock().timestamp())
    text = assertion(world, "backend", **{name: now + span for name, span in claims.items()})
    if fine:
        assert (await ask(world, text))[0] == 200
    else:
        await refused(world, text)


@pytest.mark.parametrize("exp", [None, "soon", True, [1]])
async def test_j13_an_end_that_is_no_number(world: World, exp: Any) -> None:
    """exp is required and is a number."""
    await refused(world, assertion(world, "backend", exp=exp))


@pytest.mark.parametrize("jti", [None, "", "x" * 10_000, 7])
async def test_j15_jti(world: World, jti: Any) -> None:
    """jti is required, a text, of reasonable length."""
    await refused(world, assertion(world, "backend", jti=jti))


async def test_j16_jti_is_used_once_even_in_parallel(world: World) -> None:
    """The same assertion 20 times at once gives one token; another client may use the same jti."""
    text = assertion(world, "backend", jti="same")
    answers = await asyncio.gather(*(ask(world, text) for _ in range(20)))
    assert sorted(status for status, _ in answers) == [200] + [401] * 19
    await clients.save(world.realm, "backend2", BACKEND)
    assert (await ask(world, assertion(world, "backend2", jti="same")))[0] == 200


async def test_j17_issuer_and_subject(world: World) -> None:
    """iss, sub and client_id are one and the same registered client."""
    await clients.save(world.realm, "backend2", BACKEND | {"jwks": {"keys": [STRANGER.as_dict(private=False)]}})
    await refused(world, assertion(world, "backend", sub="backend2"))
    await refused(world, assertion(world, "backend2", sub="backend2", key=EC))
    await refused(world, assertion(world, "nobody"))
    status, found = await ask(world, assertion(world, "backend"), client_id="backend2")
    assert (status, found["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("aud", [None, "https://evil.example/token", f"{AUTH}/token/", [f"{AUTH}/token", "x"], "*", ""])
async def test_j18_one_exact_audience(world: World, aud: Any) -> None:
    """aud is the URL of the token endpoint and nothing else beside it."""
    await refused(world, assertion(world, "backend", aud=aud))
    assert (await ask(world, assertion(world, "backend", aud=[f"{AUTH}/token"])))[0] == 200


async def test_j19_bombs_are_refused_at_once(world: World) -> None:
    """A megabyte of header or payload, a JWE, and deep nesting cost nothing."""
    browser = world.browser()
    deep = base64.urlsafe_b64encode(b"[" * 4_000 + b"]" * 4_000).decode().rstrip("=")
    bombs = [
        "A" * 1_000_000 + ".e30.AA",
        f"e30.{'A' * 1_000_000}.AA",
        "a.b.c.d.e",
        f"{deep}.{deep}.AA",
        f"e30.{deep}.AA",
    ]
    before = memory.getrusage(memory.RUSAGE_SELF).ru_maxrss
    for bomb in bombs:
        begin = time.process_time()
        answer = await browser.http.post("/auth/token", data=asserted(bomb))
        assert time.process_time() - begin < 0.2
        assert answer.status_code in (400, 401, 413)
    assert memory.getrusage(memory.RUSAGE_SELF).ru_maxrss - before < 20_000


async def test_j20_private_and_weak_keys_are_not_registered_or_used(world: World) -> None:
    """A JWK Set with a private key is refused at registration, a short RSA key when it is used."""
    with pytest.raises(Exception, match="public keys"):
        await clients.save(world.realm, "x", BACKEND | {"jwks": {"keys": [EC.as_dict(private=True)]}})
    with pytest.warns(SecurityWarning):
        weak = RSAKey.generate_key(1024, {"kid": "weak"})
    await clients.save(world.realm, "x", BACKEND | {"jwks": {"keys": [weak.as_dict(private=False)]}})
    await refused(world, assertion(world, "x", weak, "RS384"))


async def test_j21_rotation_of_a_clients_keys(world: World) -> None:
    """A new key is accepted and an old one refused within six seconds, with at most one fetch in five."""
    await clients.save(world.realm, "linked", {**BACKEND, "jwks": None, "jwks_uri": JWKS_URI})
    old, new = (ECKey.generate_key("P-384", {"kid": kid}) for kid in ("old", "new"))

    def publish(key: ECKey) -> None:
        body = json.dumps({"keys": [key.as_dict(private=False)]}).encode()
        world.web[JWKS_URI] = Fetched(200, {"cache-control": "max-age=5"}, body)

    publish(old)
    assert (await ask(world, assertion(world, "linked", old)))[0] == 200
    publish(new)
    for _ in range(5):
        await refused(world, assertion(world, "linked", new))
    assert len(world.fetched) == 1
    world.clock.pass_by(seconds=6)
    assert (await ask(world, assertion(world, "linked", new)))[0] == 200
    await refused(world, assertion(world, "linked", old))
    assert len(world.fetched) == 2


async def test_j22_a_key_set_that_cannot_be_read(world: World) -> None:
    """An unreachable, broken or odd key set is invalid_client and never a fault of the server."""
    await clients.save(world.realm, "linked", {**BACKEND, "jwks": None, "jwks_uri": JWKS_URI})
    await refused(world, assertion(world, "linked"))
    for body in (
        b"",
        b"[]",
        b'{"keys": 1}',
        b'{"keys": [1, null]}',
        b'{"keys": [{"kid":"ec1","kty":"EC","crv":"P-384"}]}',
    ):
        world.clock.pass_by(seconds=6)
        world.web[JWKS_URI] = Fetched(200, {}, body)
        await refused(world, assertion(world, "linked"))


async def test_j23_rotation_and_removal_of_our_own_key(world: World) -> None:
    """Tokens of a rotated key live until they expire; removing a key in an emergency kills them at once."""
    await people(world)
    browser = world.browser()
    first = await browser.granted("ada", scope="openid launch/patient patient/*.rs")
    k1 = (await browser.open("/auth/jwks")).json()["keys"][0]["kid"]
    k2 = await keys.rotate(world.realm)
    second = await browser.granted("ada", scope="openid launch/patient patient/*.rs")
    listed = [key["kid"] for key in (await browser.open("/auth/jwks")).json()["keys"]]
    assert sorted(listed) == sorted([k1, k2])
    assert all("d" not in key for key in (await browser.open("/auth/jwks")).json()["keys"])
    assert await principals.of_token(world.realm, first["access_token"])
    assert await keys.remove(world.realm, k1) == 1
    assert await principals.of_token(world.realm, first["access_token"]) is None
    assert await principals.of_token(world.realm, second["access_token"])
    assert await keys.read(world.realm, first["id_token"]) is None
    assert await keys.read(world.realm, second["id_token"])
    assert await keys.remove(world.realm, k1) is None


async def test_no_secret_begins_like_an_option(world: World) -> None:
    """The name of a key is a command's argument: `token kill -S…` was refused as an unknown option."""
    drawn = iter([b"\xf8" * 9, b"\xfb" * 9, b"\xfc" * 9])
    realm = replace(world.realm, random=lambda _: next(drawn))
    assert realm.secret(9) == "_Pz8_Pz8_Pz8"


async def test_s15_scopes_of_the_wrong_kind_of_client(world: World) -> None:
    """offline_access, patient and user scopes, and none that is registered, are refused for a backend service."""
    for scope in (
        "system/*.rs offline_access",
        "patient/*.rs",
        "user/*.rs system/*.rs",
        "system/*.cud",
        "nonsense",
        "",
    ):
        status, found = await ask(world, assertion(world, "backend"), scope=scope)
        assert (status, found["error"]) == (400, "invalid_scope")
    assert (await ask(world, assertion(world, "backend"), scope="system/*.cruds"))[1]["scope"] == "system/*.rs"


async def test_a_client_uses_only_its_own_method_and_grants(world: World) -> None:
    """A backend's assertion opens no other grant, and a public client has no client_credentials."""
    status, found = await ask(world, assertion(world, "backend"), grant_type="refresh_token", refresh_token="x")
    assert (status, found["error"]) == (400, "unauthorized_client")
    form = {"grant_type": "client_credentials", "scope": "system/*.rs", "client_id": "app"}
    answer = await world.browser().http.post("/auth/token", data=form)
    assert answer.json()["error"] == "unauthorized_client"
    assert APP["kind"] == "public"
