"""Settings: one field each, with its default and its reason; every one is an environment variable FHIR_NAME."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MEBIBYTE = 1 << 20


def auth_url(base: str) -> str:
    """Where the authorization server of a FHIR base is."""
    return f"{base.removesuffix('/fhir')}/auth"


class Config(BaseSettings):
    """All settings of the server; the command line and the environment fill it, tests construct it."""

    model_config = SettingsConfigDict(env_prefix="FHIR_", frozen=True, extra="ignore")

    # Where it listens and what it calls itself
    host: str = "127.0.0.1"  # the address to listen on; anything but loopback needs auth
    port: int = Field(default=8000, ge=0, le=65535)  # the TCP port; 0 takes a free one
    workers: int = Field(default=1, ge=1, le=64)  # server processes that share the port
    base_url: str = ""  # what links start with, such as https://fhir.example.org/fhir; empty: http://HOST:PORT/fhir
    auth: Literal["smart", "none"] = "smart"  # who may call; `none` is everybody, and refused off loopback

    registration: Literal["off", "token", "open"] = "off"  # apps that register themselves: never, with a token, anyone

    providers: tuple[dict[str, Any], ...] = ()  # external OpenID providers to log in with, see docs/smart.md

    rate_data: int = 60_000  # requests for data a minute and caller; 0 for no limit
    rate_files: int = 6_000  # requests for Binary, Media and DocumentReference a minute and caller
    rate_general: int = 3_000  # requests to the login pages and token endpoints a minute and address

    audit_days: int = Field(default=0, ge=0)  # days that the audit trail is kept; 0 for ever

    # Where the data is
    mongo: str = ""  # URL of a MongoDB replica set; empty: an embedded mongod on the data folder
    database: str = "fhir"  # the database's name; tenants have others, which begin with it
    tenant: str = "default"  # the name of the tenant; the server sets it for those below /t/
    data: Path = Path(".data")  # folder of the embedded database and of the key file
    key: str = (
        ""  # 64 hexadecimal digits that seal page links and secrets; empty: made once and kept in the data folder
    )
    old_key: str = ""  # the key before that one: what it sealed still opens, until `fhir-server key rotate` is done
    demo: bool = False  # load the demo hospital when the database is empty

    # What a request may cost
    max_body: int = 30 * MEBIBYTE  # bytes of a request body, after inflating
    max_url: int = 16_384  # bytes of a path with its query
    max_headers: int = 65_536  # bytes of all header lines
    max_values: int = 1_000  # values in one query
    search_seconds: float = Field(default=5, gt=0)  # seconds a search may take; then it is answered 400 too-costly
    max_entries: int = 5_000  # entries of a batch
    max_transaction: int = 1_000  # entries of a transaction; the largest bundle Synthea makes here has 858
    max_requests: int = 256  # requests at work at once; the next one is answered 503 with Retry-After
    big_body: int = MEBIBYTE  # bytes from which a body is parsed off the event loop
    big_bodies: int = 60 * MEBIBYTE  # bytes of big bodies at work at once; parsing takes about 8 times as much memory
    batch_width: int = 16  # entries of a batch at work at once
    body_seconds: float = 60  # seconds a client may take to send a body
    header_seconds: float = 10  # seconds a client may take to send the header lines of its first request
    idle_seconds: int = 75  # seconds an idle connection is kept
    stop_seconds: int = 20  # seconds that requests at work get when the server stops
    drain_seconds: float = 0.5  # seconds between "not ready" and the closed door when a SIGTERM stops the server

    # What the interactions do
    count: int = 20  # resources of a page when the client does not say
    max_count: int = 1_000  # resources of a page at most
    update_create: bool = True  # PUT to an id that does not exist creates it
    conditional_delete: Literal["single", "multiple"] = "multiple"  # what a conditional delete may delete
    max_conditional_delete: int = 100  # resources one conditional delete may delete
    referential_integrity: bool = False  # refuse references to nothing, and deletes of what is referred to
    check_profiles: bool = True  # check what a resource claims in meta.profile, where the profile is known
    required_profiles: dict[str, tuple[str, ...]] = {}  # profiles that a resource must fit to be stored, by type
    unknown_extensions: Literal["error", "warning", "information", ""] = "error"  # in $validate; empty: not told
    forbid_html: bool = False  # in $validate: HTML tags in strings and markdown are errors
    cors_origins: tuple[str, ...] = ()  # origins of browser applications, such as https://app.example.org
    gzip_min: int = 1_024  # bytes from which an answer is compressed for a client that accepts it

    # What it tells the operator
    log_level: Literal["debug", "info", "warning", "error"] = "info"  # what is logged
    log_requests: bool = False  # one log line a request; costs about 20 microseconds each

    @model_validator(mode="after")
    def check_open(self) -> Self:
        """An open server on a public address is an accident (docs/architecture.md)."""
        if self.auth == "none" and self.host not in LOOPBACK:
            raise ValueError(f"--auth none is refused on {self.host}: use a loopback address, or --auth smart")
        return self

    def __hash__(self) -> int:
        """By identity, for caches: one setting is a table, which has no hash."""
        return id(self)

    @property
    def base(self) -> str:
        """The base URL, without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.base_url.rstrip("/") or f"http://{host}:{self.port}/fhir"

    @property
    def auth_url(self) -> str:
        """The address of the authorization server's endpoints, beside the FHIR base."""
        return auth_url(self.base)
