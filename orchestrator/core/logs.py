"""Log lines: one event each, readable or JSON. What users sent cannot forge a line or colour a terminal."""

from __future__ import annotations

import logging
import logging.config
import re
from datetime import UTC, datetime
from typing import Any

import orjson

FORMATS = ("text", "json")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

# Control characters, line and paragraph separators, marks that reverse or hide text, and lone surrogates.
UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
TAB = "    "


def escaped(text: str) -> str:
    r"""`text` on one line: unsafe characters as `\n`, `\x1b` or `\u202e`."""
    return UNSAFE.sub(lambda match: ascii(match[0])[1:-1], text)


def traceback_of(record: logging.LogRecord) -> str:
    """The formatted exception and stack of a record; empty without them."""
    if record.exc_info and not record.exc_text:
        record.exc_text = logging.Formatter().formatException(record.exc_info)
    return "\n".join(part for part in (record.exc_text, record.stack_info) if part)


def instant(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TextFormatter(logging.Formatter):
    """`time LEVEL logger: message`; a traceback follows on lines that begin with a bar, as no event does."""

    def format(self, record: logging.LogRecord) -> str:
        head = f"{instant(record)} {record.levelname:<7} {record.name}: {escaped(record.getMessage())}"
        lines = [escaped(line.replace("\t", TAB)) for line in traceback_of(record).split("\n") if line]
        return "\n  | ".join([head, *lines])


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, process, and exception where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": instant(record),
            "level": record.levelname,
            "logger": record.name,
            "message": storable(record.getMessage()),
            "process": record.process,
        }
        if trace := traceback_of(record):
            event["exception"] = storable(trace)
        return orjson.dumps(event).decode()


def storable(text: str) -> str:
    """`text` without lone surrogates, which no encoder takes."""
    return text.encode("utf-8", "backslashreplace").decode()


def configuration(log_format: str, level: str) -> dict[str, Any]:
    """Django's LOGGING: everything at `level` or above to standard error, in one of FORMATS."""
    formatter = {"text": TextFormatter, "json": JsonFormatter}[log_format]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": formatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # Django's own handlers write to the console once more, and to mailboxes nobody has.
            "django": {"handlers": [], "level": level, "propagate": True},
            # A 404 is an answer, not an event.
            "django.request": {"level": "ERROR"},
            # Bad Host headers and the like are answered with 400; every scanner sends them.
            "django.security": {"level": "CRITICAL"},
            "_granian": {"handlers": [], "level": "ERROR", "propagate": True},
        },
    }


def configure(log_format: str, level: str) -> None:
    """Log from here on as `configuration` says."""
    logging.config.dictConfig(configuration(log_format, level))
