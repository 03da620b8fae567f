"""Open a database: a replica set or nothing, and what its version is worth."""

from __future__ import annotations

import contextlib
from typing import Any

import pymongo
from pymongo import AsyncMongoClient
from pymongo.errors import ConfigurationError, InvalidURI, OperationFailure, PyMongoError

from fhir_server.store.driver import SEARCH_SECONDS, Driver
from fhir_server.store.records import Document
from fhir_server.store.schema import prepare
from fhir_server.store.store import Store
from profiles.outcome import FhirError

# docs/security.md; older releases work and have published holes.
RECOMMENDED = {7: (7, 0, 35), 8: (8, 0, 24)}
OLDEST = (6, 0)

STANDALONE = (
    "MongoDB at {where} runs alone, and this server needs a replica set, of which one node is enough: "
    "start mongod with --replSet rs0 and run rs.initiate() once, or leave out --mongo to use the embedded one."
)


async def open_store(
    url: str,
    database: str = "fhir",
    *,
    limit: float = 10,
    reach: float = 5,
    transaction_seconds: int = 5,
    search_seconds: float = SEARCH_SECONDS,
) -> Store:
    """The store in `database` behind `url`; FhirError where nothing usable answers within `reach` seconds.

    `limit` is the time in seconds every call may take, `search_seconds` that of a search. Warnings for the operator
    are in `Store.warnings`.
    """
    try:
        client: AsyncMongoClient[Document] = AsyncMongoClient(url, **_options(reach))
    except (InvalidURI, ConfigurationError, ValueError) as error:
        raise FhirError("exception", f"The MongoDB URL cannot be used: {error}") from error
    try:
        with pymongo.timeout(limit):
            warnings = await _examine(client, transaction_seconds)
            driver = Driver(client, database, limit, search_seconds)
            await prepare(driver)
    except BaseException as error:
        await client.close()
        if isinstance(error, PyMongoError):
            raise FhirError("exception", f"MongoDB at {_where(url)} does not answer: {_short(error)}") from error
        raise
    return Store(driver, warnings)


def _options(reach: float) -> dict[str, Any]:
    return {
        "serverSelectionTimeoutMS": int(reach * 1000),
        "connectTimeoutMS": int(reach * 1000),
        "retryReads": True,
        "retryWrites": True,
        "appname": "fhir-server",
        "tz_aware": True,
    }


async def _examine(client: AsyncMongoClient[Document], transaction_seconds: int) -> list[str]:
    """Warnings about the database; FhirError when it is no replica set."""
    hello = await client.admin.command("hello")
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise FhirError("exception", STANDALONE.format(where=_address(client)))
    await _limit_transactions(client, transaction_seconds)
    info = await client.server_info()
    return _version_warnings(tuple(info["versionArray"][:3]))


async def _limit_transactions(client: AsyncMongoClient[Document], seconds: int) -> None:
    """A transaction of a killed server blocks others until this limit (docs/security.md); an operator may forbid it."""
    with contextlib.suppress(OperationFailure):
        await client.admin.command({"setParameter": 1, "transactionLifetimeLimitSeconds": seconds})


def _version_warnings(version: tuple[int, ...]) -> list[str]:
    text = ".".join(map(str, version))
    wanted = RECOMMENDED.get(version[0])
    if version[:2] < OLDEST:
        raise FhirError("exception", f"MongoDB {text} is too old: {OLDEST[0]}.{OLDEST[1]} or newer is needed.")
    if wanted is None and version[0] > max(RECOMMENDED):
        return []
    if wanted is None or version < wanted:
        newer = " or ".join(".".join(map(str, row)) for row in RECOMMENDED.values())
        return [f"MongoDB {text} has known security holes; use {newer} or newer in production."]
    return []


def _address(client: AsyncMongoClient[Document]) -> str:
    return ", ".join(f"{host}:{port}" if port else str(host) for host, port in sorted(client.nodes)) or "this address"


def _where(url: str) -> str:
    """The hosts of a URL, without user and password."""
    return url.split("://", 1)[-1].rsplit("@", 1)[-1].split("/", 1)[0].replace("%2F", "/")


def _short(error: Exception) -> str:
    return str(error).split(", Timeout:")[0]
