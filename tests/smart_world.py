"""A realm on a real database for the tests of the authorization server: users, clients, a clock that can be moved."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from starlette.applications import Starlette

from fhir_server.auth.outside import bounded
from fhir_server.auth.portal import Choice, Portal
from fhir_server.auth.routes import auth_routes
from fhir_server.store import Store
from fhir_server.store.auth import AuthRecords
from smart_auth import clients, users
from smart_auth.access import Principal
from smart_auth.realm import Fetched, Realm, Record

ISSUER = "http://127.0.0.1:8000/fhir"
AUTH = "http://127.0.0.1:8000/auth"
CALLBACK = "https://app.example/cb"
PASSWORD = "correct horse battery"
TYPES = frozenset({"Patient", "Observation", "Condition", "Practitioner", "Encounter", "Appointment"})
PATIENTS = {"P1": "Ada Lovelace", "P2": "Bob Bell"}
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
EC = ECKey.generate_key("P-384", {"kid": "ec1"})
RSA = RSAKey.generate_key(2048, {"kid": "rsa1"})
JWKS = {"keys": [EC.as_dict(private=False), RSA.as_dict(private=False)]}
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
JWKS_URI = "https://backend.example/jwks"


@dataclass
class Clock:
    """The time, moved by hand."""

    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.at

    def pass_by(self, **span: float) -> None:
        self.at += timedelta(**span)


@dataclass
class World:
    """A realm, the clock, what was noted for the audit, and what other servers answer."""

    realm: Realm
    clock: Clock
    notes: list[tuple[str, Record]]
    web: dict[str, Fetched]
    fetched: list[str]

    @property
    def app(self) -> Starlette:
        return Starlette(routes=auth_routes(Portal(self.realm, directory)))

    def browser(self) -> Browser:
        transport = httpx2.ASGITransport(app=self.app)
        return Browser(httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000"), self)

    def noted(self, kind: str) -> list[Record]:
        return [details for name, details in self.notes if name == kind]


async def directory(principal: Principal, what: str, text: str, context: Record) -> list[Choice]:
    """The patients P1 and P2, and the encounter E1 of P1 and E2 of P2."""
    named = [Choice(identity, name, patient=identity) for identity, name in PATIENTS.items()]
    visits = [Choice(f"E{identity[1:]}", "Visit", patient=identity) for identity in PATIENTS]
    rows = named if what == "patient" else [row for row in visits if context.get("patient") in (None, row.patient)]
    if text.startswith("id:"):
        return [row for row in rows if row.id == text[3:]]
    return [row for row in rows if text.lower() in row.title.lower()]


async def make_world(store: Store, **more: Any) -> World:
    """An empty realm on the store's database."""
    clock, notes, web, fetched = Clock(), [], {}, []
    records = AuthRecords(store.driver, clock)

    async def note(kind: str, details: Record) -> None:
        notes.append((kind, details))

    async def fetch(url: str) -> Fetched:
        fetched.append(url)
        if url not in web:
            raise OSError("no such host")
        return web[url]

    realm = Realm(
        tenant="default",
        issuer=ISSUER,
        auth=AUTH,
        records=records,
        now=clock,
        random=os.urandom,
        fetch=fetch,
        hashing=bounded(),
        types=TYPES,
        answerable=lambda _type, pairs: all(name in ("category", "code", "_id") for name, _ in pairs),
        note=note,
        **more,
    )
    return World(realm, clock, notes, web, fetched)


APP: Record = {
    "kind": "public",
    "name": "Growth chart",
    "redirect_uris": [CALLBACK],
    "launch_uris": ["https://app.example/launch"],
    "logout_uris": ["https://app.example/bye"],
    "scope": "openid fhirUser profile launch launch/patient launch/encounter offline_access online_access "
    "patient/*.cruds user/*.cruds",
    "grants": ["authorization_code", "refresh_token"],
}
BACKEND: Record = {
    "kind": "asymmetric",
    "name": "Lab feed",
    "scope": "system/*.rs",
    "grants": ["client_credentials"],
    "jwks": JWKS,
}


async def people(world: World) -> None:
    """A doctor, a nurse and two patients, all with one password."""
    hashed = await users.hashed(world.realm, "dora", PASSWORD)
    rows = (
        ("dora", "Dr. Dora", "Doctor", "Practitioner/D1"),
        ("nora", "Nora", "Nurse", "Practitioner/N1"),
        ("ada", "Ada Lovelace", "Patient", "Patient/P1"),
        ("bob", "Bob Bell", "Patient", "Patient/P2"),
    )
    for key, name, role, who in rows:
        await users.create(world.realm, key, None, {"name": name, "roles": [role], "fhir_user": who})
        await world.realm.records.change("users", key, {"password": hashed})


async def apps(world: World) -> dict[str, str]:
    """A public, a symmetric, an asymmetric and a backend client, and the attacker's own; secrets by client."""
    secrets: dict[str, str] = {}
    rows: dict[str, Record] = {
        "app": APP,
        "web": APP | {"kind": "symmetric", "name": "Portal"},
        "signed": APP | {"kind": "asymmetric", "name": "Signed", "jwks": JWKS},
        "backend": BACKEND,
        "evil": APP | {"name": "Evil", "redirect_uris": ["https://evil.example/cb"]},
    }
    for client_id, fields in rows.items():
        _, secret = await clients.save(world.realm, client_id, fields)
        secrets |= {client_id: secret} if secret else {}
    return secrets


def assertion(
    world: World, client_id: str, key: Any = EC, alg: str = "ES384", header: Any = None, **claims: Any
) -> str:
    """A client assertion as SMART wants it, with changes; a claim of None is left out."""
    now = int(world.clock().timestamp())
    given = {"iss": client_id, "sub": client_id, "aud": f"{AUTH}/token", "exp": now + 240, "jti": os.urandom(9).hex()}
    body = {name: value for name, value in {**given, **claims}.items() if value is not None}
    fields = {"alg": alg, "kid": key.kid, "typ": "JWT", **(header or {})}
    return jwt.encode({k: v for k, v in fields.items() if v is not None}, body, key, algorithms=[alg, "RS256", "PS384"])


def asserted(text: str, **more: str) -> dict[str, str]:
    """The form of a backend service's token request."""
    return {
        "grant_type": "client_credentials",
        "scope": "system/*.rs",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": text,
        **more,
    }


REQUEST = {
    "response_type": "code",
    "client_id": "app",
    "redirect_uri": CALLBACK,
    "scope": "openid fhirUser launch/patient patient/*.rs offline_access",
    "state": "s-123",
    "aud": ISSUER,
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
}


@dataclass
class Browser:
    """A browser that fills in forms."""

    http: httpx2.AsyncClient
    world: World
    html: str = ""

    async def open(self, path: str, **params: str) -> httpx2.Response:
        return await self._show(await self.http.get(path, params=params or None))

    async def post(self, path: str, **fields: Any) -> httpx2.Response:
        """Post a form with the hidden fields of the page that is shown."""
        hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', self.html))
        fields = {**{k: v for k, v in hidden.items() if k in ("csrf", "flow", "what")}, **fields}
        fields = {k: v for k, v in fields.items() if v is not None}
        return await self._show(await self.http.post(f"/auth{path}", data=fields))

    async def _show(self, answer: httpx2.Response) -> httpx2.Response:
        for _ in range(10):
            target = answer.headers.get("location", "")
            if not target.startswith("http://127.0.0.1:8000/"):
                break
            answer = await self.http.get(target)
        self.html = answer.text
        return answer

    async def authorize(self, **changes: Any) -> httpx2.Response:
        """Start a login; a change to None leaves a parameter out."""
        params = {k: v for k, v in {**REQUEST, **changes}.items() if v is not None}
        return await self.open("/auth/authorize", **params)

    async def log_in(self, username: str, password: str = PASSWORD) -> httpx2.Response:
        return await self.post("/login", username=username, password=password)

    async def allow(self, *without: str) -> httpx2.Response:
        offered = [each.replace("&amp;", "&") for each in re.findall(r'name="scope" value="([^"]*)"', self.html)]
        return await self.post("/consent", action="allow", scope=[s for s in offered if s not in without])

    async def token(self, auth: tuple[str, str] | None = None, **fields: Any) -> httpx2.Response:
        form = {k: v for k, v in fields.items() if v is not None}
        return await self.http.post("/auth/token", data=form, auth=auth)

    async def code(self, username: str = "ada", **changes: Any) -> str:
        """Log in, allow all, and return the code."""
        answer = await self.authorize(**changes)
        if 'name="password"' in self.html:
            answer = await self.log_in(username)
        if 'name="what"' in self.html:
            answer = await self.post("/pick", id="P1")
        if "Allow" in self.html and 'name="scope"' in self.html:
            answer = await self.allow()
        return sent(answer)["code"]

    async def granted(self, username: str = "ada", **changes: Any) -> dict[str, Any]:
        """The token answer of a whole login with the public client."""
        code = await self.code(username, **changes)
        client_id = changes.get("client_id", "app")
        answer = await self.token(
            grant_type="authorization_code",
            code=code,
            redirect_uri=CALLBACK,
            code_verifier=VERIFIER,
            client_id=client_id,
        )
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def sent(answer: httpx2.Response) -> dict[str, str]:
    """The parameters of a redirect to the client."""
    location = answer.headers["location"]
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
