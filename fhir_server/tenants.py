"""Tenants: `/t/NAME/fhir` and `/t/NAME/auth`, each an application of its own on a database of its own.

Nothing is shared but the process and the connections to MongoDB: users, clients, keys, roles, search parameters,
definitions, caches, limits and the audit trail are those of the tenant's database.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fhir_server.config import Config
from fhir_server.keyring import derived, keys_of
from fhir_server.store import Store
from fhir_server.store.tenants import tenant_names

# An ASGI application.
Application = Callable[[Any, Any, Any], Awaitable[None]]

MOUNT = "/t/"
NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,29}[a-z0-9])?", re.ASCII)
DEFAULT = "default"
POLL = 0.5  # seconds between two looks at which tenants there are


def config_of(config: Config, name: str) -> Config:
    """The configuration of a tenant: its own database, address and key, made from those of the default tenant."""
    key, *old = [made.hex() for made in derived(keys_of(config), f"tenant {name}".encode())]
    base = f"{config.base.removesuffix('/fhir')}{MOUNT}{name}/fhir"
    more = {
        "database": f"{config.database}_t_{name}",
        "base_url": base,
        "key": key,
        "old_key": next(iter(old), ""),
        "tenant": name,
        "demo": False,
    }
    return config.model_copy(update=more)


def named_in(path: str) -> str | None:
    """The tenant that a path names, None for the default one."""
    return path[len(MOUNT) :].partition("/")[0] if path.startswith(MOUNT) else None


@dataclass(slots=True)
class Place:
    """A tenant that this worker has open, and when it was born: its namesake after a delete is another."""

    app: Application
    born: datetime
    stack: AsyncExitStack


@dataclass(slots=True)
class Tenants:
    """The tenants of a server: opened when somebody asks for them, closed when they were deleted."""

    config: Config
    running: Callable[[Config, Store], AbstractAsyncContextManager[Application]]
    store: Store | None = None
    places: dict[str, Place] = field(default_factory=dict)
    names: dict[str, datetime] = field(default_factory=dict)
    polled: float = 0.0
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def find(self, name: str) -> Application | None:
        """The application of a tenant, None where there is none of this name."""
        if self.store is None or not NAME.fullmatch(name):
            return None
        if time.monotonic() - self.polled > POLL:
            await self._look(self.store)
        if name not in self.names:
            return None
        held = self.places.get(name)
        return held.app if held is not None else await self._open(name, self.store)

    async def _look(self, store: Store) -> None:
        async with self.opening:
            if time.monotonic() - self.polled > POLL:
                self.names = await tenant_names(store)
                self.polled = time.monotonic()
                for name in [name for name, place in self.places.items() if self.names.get(name) != place.born]:
                    await self.places.pop(name).stack.aclose()

    async def _open(self, name: str, store: Store) -> Application:
        async with self.opening:
            if name not in self.places:
                born = self.names[name]
                stack = AsyncExitStack()
                app = await stack.enter_async_context(self.running(config_of(self.config, name), store))
                self.places[name] = Place(app, born, stack)
            return self.places[name].app

    async def close(self) -> None:
        """Close every tenant that is open."""
        self.store = None
        for name in list(self.places):
            await self.places.pop(name).stack.aclose()
