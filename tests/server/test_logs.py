"""One event is one line, whatever it is about."""

from __future__ import annotations

import json
import logging
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

from orchestrator.core.environment import env_choice
from orchestrator.core.logs import FORMATS, LEVELS, JsonFormatter, TextFormatter, escaped

HOSTILE = 'a\nb\r\x1b[31mred\x00\x85\u2028\u202eexe.\ud800{"level": "FAKE"}'


def record(message: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    exc_info = (type(error), error, error.__traceback__) if error else None
    made = logging.LogRecord("orchestrator.test", logging.WARNING, __file__, 1, message, args, exc_info)
    made.created = 1_780_000_000.25
    return made


def failure(text: str) -> Exception:
    try:
        raise ValueError(text)
    except ValueError:
        error = sys.exception() if hasattr(sys, "exception") else sys.exc_info()[1]
        assert isinstance(error, Exception)
        return error


def test_a_text_line_says_when_how_bad_where_and_what() -> None:
    line = TextFormatter().format(record("%s is late", "run 7"))
    assert line == "2026-05-28T20:26:40.250Z WARNING orchestrator.test: run 7 is late"


def test_what_users_wrote_neither_breaks_a_text_line_nor_colours_the_terminal() -> None:
    line = TextFormatter().format(record("%s", HOSTILE))
    assert line.endswith('a\\nb\\r\\x1b[31mred\\x00\\x85\\u2028\\u202eexe.\\ud800{"level": "FAKE"}')
    assert line.isprintable()


def test_lines_of_a_traceback_cannot_be_taken_for_events() -> None:
    line = TextFormatter().format(record("failed", error=failure("x\n2026-05-28 ERROR forged: y\x1b[2J")))
    first, *rest = line.split("\n")
    assert first.endswith("failed")
    assert "ValueError" in line
    assert all(each.startswith("  | ") and each.isprintable() for each in rest)


def test_a_json_event_is_one_line_and_gives_back_what_was_written() -> None:
    line = JsonFormatter().format(record("%s", HOSTILE, error=failure("two\nlines")))
    event = json.loads(line)
    assert line.count("\n") == 0 and line.isascii() is False
    assert event["message"] == HOSTILE.replace("\ud800", "\\ud800")
    assert event["exception"].endswith("ValueError: two\nlines")
    assert (event["level"], event["logger"], event["time"]) == ("WARNING", "orchestrator.test", "2026-05-28T20:26:40.250Z")


def test_ordinary_text_is_left_as_it_is() -> None:
    assert escaped("Grüße, 東京 – 🚀 C:\\temp") == "Grüße, 東京 – 🚀 C:\\temp"


@pytest.mark.parametrize("value", ["xml", ""])
def test_an_unknown_format_is_refused_with_the_name_of_its_variable(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_LOG_FORMAT", value)
    with pytest.raises(ImproperlyConfigured, match="ORCHESTRATOR_LOG_FORMAT must be one of text, json"):
        env_choice("ORCHESTRATOR_LOG_FORMAT", default="text", choices=FORMATS)


def test_a_level_is_read_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_LOG_LEVEL", "debug")
    assert env_choice("ORCHESTRATOR_LOG_LEVEL", default="INFO", choices=LEVELS) == "DEBUG"
