"""A store whose n-th driver call fails (docs/security.md): not carried out, or carried out and the answer lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pymongo.errors import AutoReconnect, ConfigurationError, NetworkTimeout, OperationFailure, PyMongoError

from fhir_server.store import Store


def _labelled(error: PyMongoError, label: str) -> PyMongoError:
    error._add_error_label(label)
    return error


def unknown_commit() -> PyMongoError:
    """Nobody knows whether the commit was done."""
    return _labelled(AutoReconnect("connection closed"), "UnknownTransactionCommitResult")


def write_conflict() -> PyMongoError:
    """Another transaction was there first."""
    return _labelled(OperationFailure("WriteConflict", 112), "TransientTransactionError")


ERRORS: dict[str, Callable[[], PyMongoError]] = {
    "AutoReconnect": lambda: AutoReconnect("connection closed"),
    "NetworkTimeout": lambda: NetworkTimeout("timed out"),
    "WriteConflict": write_conflict,
    "UnknownCommit": unknown_commit,
    "NoSessions": lambda: ConfigurationError("Sessions are not supported by this MongoDB deployment"),
}


class Fault:
    """Makes the n-th driver call of a store raise; `hit` tells whether there were so many."""

    def __init__(self, store: Store, number: int, error: Callable[[], PyMongoError], *, done: bool) -> None:
        self._store = store
        self._left = number
        self._error = error
        self._done = done
        self.hit = False

    async def __aenter__(self) -> Fault:
        self._call = self._store.driver.call
        self._store.driver.call = self._fail  # type: ignore[method-assign]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._store.driver.call = self._call  # type: ignore[method-assign]

    async def _fail(self, operation: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        self._left -= 1
        if self._left:
            return await self._call(operation, *args, **options)
        self.hit = True
        if self._done:
            await self._call(operation, *args, **options)
        raise self._error()
