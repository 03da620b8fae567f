"""Structured logs: one JSON object a line (words on a terminal), with a request id and no patient data."""

from __future__ import annotations

import logging
import sys
from typing import Any

import msgspec
import structlog


def _line(_: Any, __: str, event: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()


class Passed(logging.Handler):
    """Lines of uvicorn as ours; of an exception name and place, since its message may hold patient data."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        more = {} if error is None else {"error": type(error).__name__, "place": places_of(error)}
        structlog.get_logger().log(record.levelno, record.getMessage().strip(), **more)


def places_of(error: BaseException) -> list[str]:
    """Where an error came from: files and lines, and no message, which may hold patient data."""
    places, trace = [], error.__traceback__
    while trace is not None:
        places.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    return places[-6:]


def configure(level: str) -> None:
    """Log from this level on, to standard error."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else _line,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # as it is now: it may have been replaced
        cache_logger_on_first_use=False,
    )
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("uvicorn").handlers = [Passed()]
