"""Users: passwords, second factor, passkeys, lock-out, account page (docs/security.md L)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import statistics
import struct
import time
from typing import Any

import cbor2
import pyotp
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from webauthn.helpers import bytes_to_base64url

from fhir_server.auth.outside import bounded
from fhir_server.store import Store
from profiles.outcome import FhirError
from smart_auth import principals, users
from tests.smart_world import AUTH, PASSWORD, Browser, World, make_world, sent

pytestmark = pytest.mark.anyio


async def test_the_first_start_makes_one_admin(store: Store) -> None:
    """A realm without users gets `admin` with a random password, once; the password works."""
    world = await make_world(store)
    made = await asyncio.gather(users.first_admin(world.realm), users.first_admin(world.realm))
    [(name, password)] = [each for each in made if each]
    assert await users.first_admin(world.realm) is None
    assert len(password) >= 20
    assert await users.by_password(world.realm, name, password)
    assert "rights" in json.dumps(await world.realm.records.find("users", {}), default=str) or name == "admin"


async def test_workers_that_start_at_once_make_one_admin(store: Store) -> None:
    """Of eight workers that start together on an empty database one makes `admin` and tells the password that works."""
    world = await make_world(store)
    await world.realm.records.drop("users", {})
    made = [found for found in await asyncio.gather(*(users.first_admin(world.realm) for _ in range(8))) if found]
    assert len(made) == 1
    assert await users.by_password(world.realm, *made[0]) is not None
    assert len(await world.realm.records.find("users", {})) == 1


async def test_names_are_one_whatever_their_case(world: World) -> None:
    """ADA, ada and a full-width ada are one user; a taken, an odd or an operator-like name is refused."""
    assert await users.by_password(world.realm, " ＡＤＡ ", PASSWORD)
    for name, code in (("ADA", "duplicate"), ("a b", "value"), ("{$ne:1}", "value"), ("", "value")):
        with pytest.raises(FhirError) as found:
            await users.create(world.realm, name, None, {"name": "x"})
        assert found.value.code == code


@pytest.mark.parametrize("password", ["short", "x" * 257, "carol-is-me"])
async def test_weak_passwords_are_refused(world: World, password: str) -> None:
    """Too short, too long, or the user's own name."""
    with pytest.raises(FhirError):
        await users.create(world.realm, "Carol-Is-Me", password, {"name": "Carol"})


async def test_passwords_are_argon2id(world: World) -> None:
    """What is stored is an Argon2id hash."""
    record = await world.realm.records.get("users", "ada")
    assert record is not None
    assert record["password"].startswith("$argon2id$")


async def test_l01_an_unknown_name_takes_as_long_as_a_wrong_password(world: World) -> None:
    """The medians of known and unknown names differ by less than the noise of one hash."""

    async def timed(name: str) -> float:
        begin = time.process_time()
        assert await users.by_password(world.realm, name, "wrong password") is None
        return time.process_time() - begin

    known, unknown = [], []
    for number in range(8):
        known.append(await timed("ada"))
        unknown.append(await timed(f"nobody{number}"))
    assert abs(statistics.median(known) - statistics.median(unknown)) < statistics.median(known) / 2


async def test_l03_guessing_is_slowed_down_and_the_owner_gets_in_again(browser: Browser, world: World) -> None:
    """Five wrong passwords a minute on an account, then 429; a minute later the owner gets in."""
    await browser.open("/auth/account")
    codes = [(await browser.log_in("ada", f"wrong {i}")).status_code for i in range(7)]
    assert codes == [401] * 5 + [429] * 2
    await browser.open("/auth/account")
    late = await browser.log_in("ada")
    assert late.status_code == 429
    assert int(late.headers["retry-after"]) <= 61
    await browser.open("/auth/account")
    assert (await browser.log_in("bob")).status_code == 200
    world.clock.pass_by(seconds=61)
    await browser.post("/logout")
    await browser.open("/auth/account")
    assert "Your account" in (await browser.log_in("ada")).text
    assert {note["outcome"] for note in world.noted("login")} == {"refused", "throttled", "success"}


async def test_d23_200_logins_at_once_block_nobody(world: World) -> None:
    """The hashes run in a bounded pool: others wait far less than for one hash; beyond the queue it is 429."""
    begin = time.perf_counter()
    await users.by_password(world.realm, "ada", "wrong password")
    one = time.perf_counter() - begin

    async def attempt(number: int) -> str:
        try:
            return "in" if await users.by_password(world.realm, f"user{number}", "wrong password") else "refused"
        except FhirError as error:
            assert (error.status, error.headers["Retry-After"]) == (429, "2")
            return "throttled"

    flood = asyncio.gather(*(attempt(number) for number in range(200)))
    late: list[float] = []
    while not flood.done():
        begin = time.perf_counter()
        await asyncio.sleep(0.005)
        late.append(time.perf_counter() - begin - 0.005)
    outcomes = await flood
    assert set(outcomes) == {"refused", "throttled"}
    assert statistics.median(late) < one / 2


async def test_l03_spraying_one_password_over_many_accounts(browser: Browser) -> None:
    """Attempts from one address are limited over all accounts."""
    await browser.open("/auth/account")
    page = browser.html
    codes = []
    for number in range(33):
        browser.html = page
        codes.append((await browser.log_in(f"user{number}", "Summer2026!")).status_code)
    assert codes[-1] == 429
    assert codes.count(401) == 30


async def test_d23_hashing_is_bounded_and_blocks_nobody() -> None:
    """200 logins at once: a bounded queue, the rest is told to come back, and the event loop stays free."""
    run = bounded(pool=2, queue=32)
    slowest = 0.0

    async def beat() -> None:
        nonlocal slowest
        while True:
            begin = time.perf_counter()
            await asyncio.sleep(0.005)
            slowest = max(slowest, time.perf_counter() - begin)

    heart = asyncio.create_task(beat())
    work = (run(lambda: hashlib.pbkdf2_hmac("sha256", b"x", b"y", 40_000)) for _ in range(200))
    answers = await asyncio.gather(*work, return_exceptions=True)
    heart.cancel()
    refused = [answer for answer in answers if isinstance(answer, FhirError)]
    assert len(answers) - len(refused) == 32
    assert {error.status for error in refused} == {429}
    assert slowest < 0.25


async def enrol(browser: Browser, world: World) -> tuple[str, list[str]]:
    """Set up the authenticator of the logged-in user; returns its secret and the backup codes."""
    await browser.open("/auth/account")
    shown = await browser.post("/account/totp")
    secret = shown.text.split("key: <code>")[1].split("<")[0]
    assert "data:image/svg+xml" in shown.text
    shown = await browser.post("/account/totp/confirm", code=pyotp.TOTP(secret).at(world.clock()))
    codes = [part.split("<")[0] for part in shown.text.split("<li><code>")[1:]]
    assert len(codes) == 10
    return secret, codes


async def test_a_second_factor_with_backup_codes(browser: Browser, world: World) -> None:
    """The authenticator is asked for after the password; a code works once, a backup code works once."""
    await browser.open("/auth/account")
    await browser.log_in("ada")
    secret, codes = await enrol(browser, world)
    other = world.browser()
    await other.authorize()
    shown = await other.log_in("ada")
    assert "Second step" in shown.text
    assert "location" not in (await other.open("/auth/account")).headers
    assert "Your account" not in other.html
    await other.authorize()
    await other.log_in("ada")
    world.clock.pass_by(seconds=30)
    code = pyotp.TOTP(secret).at(world.clock())
    assert "wrong" in (await other.post("/mfa", code="000000")).text
    shown = await other.post("/mfa", code=code)
    assert "Allow" in shown.text
    assert sent(await other.allow())["code"]
    await replay(world, code, False)
    await replay(world, codes[0], True)
    await replay(world, codes[0], False)
    await replay(world, codes[1].replace("-", " ").upper(), True)
    user = await users.find(world.realm, "ada")
    assert user is not None
    assert len(user["backup"]) == 8


async def replay(world: World, code: str, works: bool) -> None:
    browser = world.browser()
    await browser.open("/auth/account")
    await browser.log_in("ada")
    assert ("Your account" in (await browser.post("/mfa", code=code)).text) is works
    world.clock.pass_by(minutes=1)


async def test_the_second_step_needs_the_first(browser: Browser, world: World) -> None:
    """A code without a password before it is refused, and guessing codes is limited."""
    await browser.open("/auth/account")
    await browser.log_in("ada")
    await enrol(browser, world)
    other = world.browser()
    await other.open("/auth/account")
    assert (await other.post("/mfa", code="123456")).status_code == 403
    await other.open("/auth/account")
    await other.log_in("ada")
    codes = [(await other.post("/mfa", code=f"{i:06}")).status_code for i in range(7)]
    assert codes == [401] * 5 + [429] * 2


async def test_the_authenticator_goes_with_the_password(browser: Browser, world: World) -> None:
    """Removing the second factor needs the password again."""
    await browser.open("/auth/account")
    await browser.log_in("ada")
    await enrol(browser, world)
    assert "password is wrong" in (await browser.post("/account/totp/stop", password="nonsense words")).text
    assert "Set up an authenticator" in (await browser.post("/account/totp/stop", password=PASSWORD)).text


async def test_changing_the_password_ends_everything(browser: Browser, world: World) -> None:
    """The old password is needed; afterwards sessions and tokens are gone and the new one works."""
    found = await browser.granted("ada")
    await browser.open("/auth/account")
    assert "wrong" in (await browser.post("/account/password", password="nonsense words", new="a new password")).text
    assert "Log in" in (await browser.post("/account/password", password=PASSWORD, new="a new password")).text
    assert await principals.of_token(world.realm, found["access_token"]) is None
    assert (await browser.log_in("ada")).status_code == 401
    assert "Your account" in (await browser.log_in("ada", "a new password")).text


async def test_l05_reset_tokens(browser: Browser, world: World) -> None:
    """A reset token sets a password once, within the hour; opening the page does not use it up."""
    token = await users.reset_token(world.realm, "ada")
    await browser.open("/auth/reset", token=token)
    assert "Done" in (await browser.post("/reset", token=token, new="a reset password")).text
    await browser.open("/auth/reset", token=token)
    assert (await browser.post("/reset", token=token, new="another password")).status_code == 400
    assert await users.by_password(world.realm, "ada", "a reset password")
    old = await users.reset_token(world.realm, "ada")
    world.clock.pass_by(minutes=61)
    assert not await users.reset_password(world.realm, old, "too late for this")
    assert not await users.reset_password(world.realm, "guessed", "too late for this")


async def test_sessions_end_when_idle_and_by_hand(browser: Browser, world: World) -> None:
    """An hour idle ends a session, and another browser's can be ended from the account page."""
    await browser.open("/auth/account")
    await browser.log_in("ada")
    other = world.browser()
    await other.open("/auth/account")
    await other.log_in("ada")
    shown = await other.open("/auth/account")
    rows = shown.text.split('id="sessions"')[1].split('class="item"')[1:]
    [elsewhere] = [row for row in rows if "This browser" not in row]
    assert len(rows) == 2
    await other.post("/account/session", id=elsewhere.split('name="id" value="')[1].split('"')[0])
    assert "Log in" in (await browser.open("/auth/account")).text
    await browser.log_in("ada")
    world.clock.pass_by(minutes=61)
    assert "Log in" in (await browser.open("/auth/account")).text


async def test_u09_emergency_access_needs_role_reason_and_password(browser: Browser, world: World) -> None:
    """A doctor breaks the glass with a reason for half an hour, noted; a patient cannot."""
    await browser.open("/auth/account")
    await browser.log_in("dora")
    assert "wrong" in (await browser.post("/account/emergency", password="nonsense words", reason="x")).text
    assert "needs a reason" in (await browser.post("/account/emergency", password=PASSWORD, reason=" ")).text
    shown = await browser.post("/account/emergency", password=PASSWORD, reason="cardiac arrest")
    assert "Emergency access until" in shown.text
    assert world.noted("break-glass") == [{"user": "dora", "reason": "cardiac arrest"}]
    user = await users.find(world.realm, "dora")
    assert user is not None
    principal = await principals.of_user(world.realm, user)
    assert principal.breaks_glass(world.clock())
    world.clock.pass_by(minutes=31)
    assert not principal.breaks_glass(world.clock())
    ada = world.browser()
    await ada.open("/auth/account")
    await ada.log_in("ada")
    assert "role that may" in (await ada.post("/account/emergency", password=PASSWORD, reason="curious")).text


class Authenticator:
    """A passkey in software: one P-256 key for this site (WebAuthn §6)."""

    def __init__(self) -> None:
        self.key: EllipticCurvePrivateKey = generate_private_key(SECP256R1())
        self.identity = b"credential-1"
        self.count = 0
        self.handle = b""

    def _data(self, flags: int) -> bytes:
        self.count += 1
        return hashlib.sha256(b"127.0.0.1").digest() + bytes([flags]) + struct.pack(">I", self.count)

    def _client(self, kind: str, challenge: str, origin: str) -> bytes:
        return json.dumps({"type": kind, "challenge": challenge, "origin": origin, "crossOrigin": False}).encode()

    def create(self, options: dict[str, Any], origin: str) -> dict[str, Any]:
        self.handle = options["user"]["id"].encode()
        point = self.key.public_key().public_numbers()
        cose = cbor2.dumps({1: 2, 3: -7, -1: 1, -2: point.x.to_bytes(32), -3: point.y.to_bytes(32)})
        attested = bytes(16) + struct.pack(">H", len(self.identity)) + self.identity + cose
        made = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": self._data(0x45) + attested})
        client = self._client("webauthn.create", options["challenge"], origin)
        response = {"attestationObject": bytes_to_base64url(made), "clientDataJSON": bytes_to_base64url(client)}
        return self._credential(response)

    def get(self, options: dict[str, Any], origin: str) -> dict[str, Any]:
        data = self._data(0x05)
        client = self._client("webauthn.get", options["challenge"], origin)
        signature = self.key.sign(data + hashlib.sha256(client).digest(), ECDSA(SHA256()))
        response = {
            "authenticatorData": bytes_to_base64url(data),
            "clientDataJSON": bytes_to_base64url(client),
            "signature": bytes_to_base64url(signature),
            "userHandle": self.handle.decode(),
        }
        return self._credential(response)

    def _credential(self, response: dict[str, Any]) -> dict[str, Any]:
        name = bytes_to_base64url(self.identity)
        return {"id": name, "rawId": name, "type": "public-key", "response": response}


async def call(browser: Browser, path: str, body: Any) -> Any:
    csrf = browser.html.split('data-csrf="')[1].split('"')[0]
    return await browser.http.post(f"/auth{path}", json=body, headers={"X-CSRF": csrf})


ORIGIN = AUTH.removesuffix("/auth")


async def test_a_passkey_logs_in(browser: Browser, world: World) -> None:
    """Register a passkey on the account page; log in with it in another browser, through a whole authorization."""
    await browser.open("/auth/account")
    await browser.log_in("ada")
    token = Authenticator()
    options = (await call(browser, "/account/passkey/options", {})).json()
    made = await call(browser, "/account/passkey", {"name": "Phone", "credential": token.create(options, ORIGIN)})
    assert made.status_code == 200, made.text
    assert "Phone" in (await browser.open("/auth/account")).text
    other = world.browser()
    await other.authorize()
    flow = other.html.split('data-flow="')[1].split('"')[0]
    options = (await call(other, "/passkey/options", {})).json()
    answer = await call(other, "/passkey", {"flow": flow, "credential": token.get(options, ORIGIN)})
    assert answer.status_code == 200, answer.text
    assert "Allow" in (await other.open(answer.json()["next"])).text
    assert sent(await other.allow())["code"]


@pytest.mark.parametrize("fault", ["origin", "challenge", "key", "replay", "handle", "junk"])
async def test_a_passkey_of_another_site_or_time_is_refused(browser: Browser, world: World, fault: str) -> None:
    """A wrong origin, challenge, key or user, a replay, and junk do not log in."""
    await browser.open("/auth/account")
    await browser.log_in("ada")
    token = Authenticator()
    options = (await call(browser, "/account/passkey/options", {})).json()
    await call(browser, "/account/passkey", {"name": "Phone", "credential": token.create(options, ORIGIN)})
    other = world.browser()
    await other.open("/auth/account")
    options = (await call(other, "/passkey/options", {})).json()
    if fault == "challenge":
        options["challenge"] = bytes_to_base64url(b"x" * 32)
    if fault == "key":
        token.key = generate_private_key(SECP256R1())
    if fault == "handle":
        token.handle = bytes_to_base64url(b"somebody").encode()
    credential: Any = token.get(options, "https://evil.example" if fault == "origin" else ORIGIN)
    if fault == "junk":
        credential = {"id": ["x"], "response": {"userHandle": bytes_to_base64url(b"x"), "signature": 7}}
    if fault == "replay":
        assert (await call(other, "/passkey", {"credential": credential})).status_code == 200
        other = world.browser()
        await other.open("/auth/account")
    assert (await call(other, "/passkey", {"credential": credential})).status_code == 401
