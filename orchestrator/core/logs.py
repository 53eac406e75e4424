"""Log lines: readable, or one JSON object each. What users wrote never breaks a line."""

from __future__ import annotations

import logging
from typing import Any

import orjson

CONTROL = {code: f"\\x{code:02x}" for code in [*range(32), 127, *range(0x80, 0xA0)] if code != 9}
CONTROL |= {0x2028: "\\u2028", 0x2029: "\\u2029", 0x202E: "\\u202e", 10: "\\n", 13: "\\r"}


def one_line(text: str) -> str:
    """`text` with line breaks, terminal escapes and text-direction overrides made visible."""
    return text.translate(CONTROL)


class TextFormatter(logging.Formatter):
    """`2026-01-02 03:04:05 WARNING deployments.scheduling: …`; a traceback keeps its lines."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = one_line(record.message)
        return super().formatMessage(record)


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, and the traceback when there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


def configuration(form: str, level: str) -> dict[str, Any]:
    """Django's LOGGING for `form` (`text` or `json`)."""
    formatter = "orchestrator.core.logs.JsonFormatter" if form == "json" else "orchestrator.core.logs.TextFormatter"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": formatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {"django.request": {"level": "ERROR"}, "django.server": {"level": "ERROR"}},
    }
