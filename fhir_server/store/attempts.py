"""Attempts at a transaction: begin, work, commit, and again when it collided with another."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pymongo.errors import BulkWriteError, PyMongoError
from pymongo.read_concern import ReadConcern

from fhir_server.store.blobs import Blobs
from fhir_server.store.driver import DURABLE, Driver, Session
from fhir_server.store.errors import DUPLICATE_KEY, fault, fault_of
from fhir_server.store.transaction import Transaction

T = TypeVar("T")

TRANSIENT = "TransientTransactionError"
UNKNOWN = "UnknownTransactionCommitResult"
# Seconds: the first pause, its growth and its limit (the driver specification's own figures).
PAUSE, GROWTH, LONGEST = 0.005, 1.5, 0.5
DUPLICATES = 3

CROWDED = "Too many requests change the same resources at the same time; repeat the request."
UNCONFIRMED = "The database did not confirm the transaction; it may have been carried out."


async def transact(driver: Driver, blobs: Blobs, work: Callable[[Transaction], Awaitable[T]], seconds: float) -> T:
    """The result of `work`, committed; FhirError `transient` (503) when it collides with others for too long."""
    clock = asyncio.get_running_loop().time
    deadline, pause, attempt = clock() + seconds, PAUSE, 0
    while True:
        try:
            return await _attempt(driver, blobs, work, deadline)
        except Exception as error:
            if not _may_repeat(error, attempt):
                raise fault(error) from error
            if clock() + pause > deadline:
                raise fault_of("transient", CROWDED) from error
        await asyncio.sleep(random.random() * pause)  # noqa: S311 (no secret: it keeps rivals apart)
        pause, attempt = min(pause * GROWTH, LONGEST), attempt + 1


async def _attempt(driver: Driver, blobs: Blobs, work: Callable[[Transaction], Awaitable[T]], deadline: float) -> T:
    async with driver.session() as session:
        transaction = Transaction(driver, blobs, session)
        await session.start_transaction(read_concern=ReadConcern("snapshot"), write_concern=DURABLE)
        try:
            result = await work(transaction)
            await transaction.flush()
        except BaseException:
            await _abort(driver, session)
            await transaction.forget()
            raise
        await _commit(driver, session, deadline)
        return result


async def _commit(driver: Driver, session: Session, deadline: float) -> None:
    """A commit is repeated while nobody knows whether it was done; repeating a done one does nothing."""
    clock = asyncio.get_running_loop().time
    while True:
        try:
            await driver.send(session.commit_transaction)
            return
        except PyMongoError as error:
            if not error.has_error_label(UNKNOWN):
                raise
            if clock() > deadline:
                raise fault_of("transient", UNCONFIRMED) from error
        await asyncio.sleep(PAUSE)


async def _abort(driver: Driver, session: Session) -> None:
    """What cannot be aborted for want of a connection ends with its time limit in the database."""
    with contextlib.suppress(PyMongoError):
        await driver.send(session.abort_transaction)


def _may_repeat(error: BaseException | None, attempt: int) -> bool:
    """Whether a write conflict or a lost connection ended the attempt, or a create of the same id by another.

    An id that is still taken when the work has read it again is the work's own fault.
    """
    while error is not None:
        if isinstance(error, PyMongoError) and error.has_error_label(TRANSIENT):
            return True
        if isinstance(error, BulkWriteError) and attempt < DUPLICATES:
            return any(row["code"] == DUPLICATE_KEY for row in (error.details or {}).get("writeErrors", ()))
        error = error.__cause__
    return False
