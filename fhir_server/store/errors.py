"""The one place where an error of the driver becomes a FhirError (docs/architecture.md)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from bson.errors import InvalidDocument, InvalidStringData
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DocumentTooLarge,
    ExecutionTimeout,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WTimeoutError,
)

from profiles.outcome import FhirError

log = logging.getLogger(__name__)

RETRY_AFTER = {"Retry-After": "1"}

BUSY = "The database is not available at the moment; repeat the request."
SLOW = "The database did not answer in time; repeat the request."
LARGE = "The resource is too large to be stored."
EXPIRED = "These pages are no longer available; run the search again."
TAKEN = "A resource with the same id was created by another request meanwhile; repeat the request."
BROKEN = "The database refused the operation."
STRANGE = "The content cannot be stored."

DUPLICATE_KEY = 11000
# Codes of https://github.com/mongodb/mongo/blob/v6.0/src/mongo/base/error_codes.yml
CODES: dict[int, tuple[str, str]] = {
    50: ("timeout", SLOW),  # MaxTimeMSExpired
    239: ("expired", EXPIRED),  # SnapshotTooOld
    246: ("expired", EXPIRED),  # SnapshotUnavailable
    10334: ("too-long", LARGE),  # BSONObjectTooLarge
    DUPLICATE_KEY: ("conflict", TAKEN),
    17280: ("too-long", LARGE),  # KeyTooLong
    17419: ("too-long", LARGE),  # an update would outgrow the document
    17420: ("too-long", LARGE),
}
CLASSES: tuple[tuple[type[Exception], tuple[str, str]], ...] = (
    (DocumentTooLarge, ("too-long", LARGE)),
    (InvalidDocument, ("invalid", STRANGE)),
    (InvalidStringData, ("invalid", STRANGE)),
    (OverflowError, ("invalid", STRANGE)),
    (UnicodeEncodeError, ("invalid", STRANGE)),
    (TimeoutError, ("timeout", SLOW)),
    (NetworkTimeout, ("timeout", SLOW)),
    (ExecutionTimeout, ("timeout", SLOW)),
    (WTimeoutError, ("timeout", SLOW)),
    (WaitQueueTimeoutError, ("timeout", SLOW)),
    (ServerSelectionTimeoutError, ("transient", BUSY)),
    (ConnectionFailure, ("transient", BUSY)),
    (ConfigurationError, ("transient", BUSY)),  # no sessions: connected before it was primary
)
# What passes by itself: elections, interruptions, conflicts; the driver has tried again already.
PASSING = frozenset({6, 7, 24, 46, 89, 91, 112, 189, 251, 262, 9001, 10107, 11600, 11602, 13435, 13436})
LABELS = ("TransientTransactionError", "UnknownTransactionCommitResult", "RetryableWriteError")
STATUS = {"expired": 410}
FOREIGN = (PyMongoError, InvalidDocument, InvalidStringData, OverflowError, UnicodeEncodeError, TimeoutError)


def fault(error: Exception) -> Exception:
    """The FhirError for an error of the driver; what is no fault of the database comes back as it is."""
    return fault_of(*_meaning(error)) if isinstance(error, FOREIGN) else error


def fault_of(code: str, text: str) -> FhirError:
    """A FhirError of the store: transient ones say when to come back."""
    headers = RETRY_AFTER if code in ("transient", "timeout") else None
    return FhirError(code, text, status=STATUS.get(code), headers=headers)


def fault_of_code(number: int) -> FhirError:
    """The FhirError for one row of a bulk write's errors."""
    return fault_of(*CODES.get(number, ("transient", BUSY) if number in PASSING else ("exception", BROKEN)))


@contextmanager
def told() -> Iterator[None]:
    """Errors of the driver leave the block as FhirErrors."""
    try:
        yield
    except FOREIGN as error:
        raise fault(error) from error


def is_labelled(error: Exception, label: str) -> bool:
    """Whether the driver or the server marked the error, such as TransientTransactionError."""
    return isinstance(error, PyMongoError) and error.has_error_label(label)


def _meaning(error: Exception) -> tuple[str, str]:
    code = error.code if isinstance(error, OperationFailure) else None
    if isinstance(error, BulkWriteError):
        code = next((row["code"] for row in (error.details or {}).get("writeErrors", ())), code)
    if code in CODES:
        return CODES[code]
    for kind, meaning in CLASSES:
        if isinstance(error, kind):
            return meaning
    if code in PASSING or any(is_labelled(error, label) for label in LABELS):
        return "transient", BUSY
    # The message may hold values, and those are patient data; the code says enough.
    log.error("The database refused an operation: %s, code %s.", type(error).__name__, code)
    return "exception", BROKEN
