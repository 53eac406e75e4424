"""Every error in the wire's words (contract: conventions.md, section 4). Raise these; `answer` renders them."""

from __future__ import annotations

import logging
import re
from typing import Any, ClassVar

from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import DatabaseError, IntegrityError, OperationalError
from django.http import Http404, HttpResponse
from pydantic import BaseModel, ValidationError
from rest_framework import exceptions

from orchestrator.core import json_body

log = logging.getLogger(__name__)

SENSITIVE = re.compile(r"pass(word|wd|phrase)?|secret|token|api_?key|credential|auth|private|job_variables|env$", re.I)
MASK = "********"
INTEGRITY = (
    "Data integrity conflict. This usually means a unique or foreign key constraint was violated. See server logs for details."
)


class WireError(Exception):
    """An error with a status and a `detail`. The class fixes the status, the instance the words."""

    status: ClassVar[int] = 500
    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def body(self) -> dict[str, Any]:
        return {"detail": self.detail}


class BadRequest(WireError):
    status = 400


class Forbidden(WireError):
    status = 403


class NotFound(WireError):
    status = 404


class Missing(NotFound):
    """An object that the engine looked for in vain; the wire calls the text `exception_message`."""

    def body(self) -> dict[str, Any]:
        return {"exception_message": self.detail}


class Conflict(WireError):
    status = 409


class Gone(WireError):
    status = 410


class Locked(WireError):
    """No slot is free; where `retry_after` seconds are given, one may be then."""

    status = 423

    def __init__(self, detail: str = "Locked", retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Unprocessable(WireError):
    status = 422


class InvalidRequest(Exception):
    """A request that does not fit its shape: `errors` as pydantic lists them, and what was sent."""

    def __init__(self, errors: list[dict[str, Any]], sent: Any, place: str = "body") -> None:
        super().__init__("Invalid request received.")
        self.errors = errors
        self.sent = sent
        self.place = place

    @classmethod
    def of(cls, error: ValidationError, sent: Any, place: str = "body") -> InvalidRequest:
        return cls([dict(item) for item in error.errors(include_url=False)], sent, place)

    @classmethod
    def single(cls, type_: str, loc: tuple[str | int, ...], msg: str, value: Any = None, sent: Any = None) -> InvalidRequest:
        place, *rest = loc
        return cls([{"type": type_, "loc": tuple(rest), "msg": msg, "input": value}], sent, str(place))

    def body(self) -> dict[str, Any]:
        return {
            "exception_message": "Invalid request received.",
            "exception_detail": [self._item(error) for error in self.errors],
            "request_body": masked(self.sent),
        }

    def _item(self, error: dict[str, Any]) -> dict[str, Any]:
        location = [self.place, *error["loc"]]
        sensitive = any(isinstance(part, str) and SENSITIVE.search(part) for part in location)
        item: dict[str, Any] = {
            "type": error["type"],
            "loc": location,
            "msg": error["msg"],
            "input": MASK if sensitive else masked(error.get("input")),
        }
        if context := error.get("ctx"):
            item["ctx"] = {key: {} if isinstance(value, Exception) else value for key, value in context.items()}
        return item


def masked(value: Any) -> Any:
    """`value` with everything under a key that sounds secret replaced, so that an answer never echoes a secret."""
    if isinstance(value, dict):
        return {k: MASK if SENSITIVE.search(str(k)) and v is not None else masked(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [masked(item) for item in value]
    if isinstance(value, BaseModel):
        return masked(value.model_dump(mode="json"))
    if isinstance(value, str | int | float | bool | None):
        return value
    return str(value)


def reply(status: int, body: Any) -> HttpResponse:
    return HttpResponse(json_body.dump(body), status=status, content_type="application/json")


def answer(exc: Exception, context: Any) -> HttpResponse | None:
    """DRF's exception handler: the response for `exc`. A fault of ours is logged and answered 500 without its text."""
    match exc:
        case WireError():
            response = reply(exc.status, exc.body())
            for name, value in exc.headers.items():
                response[name] = value
            return response
        case InvalidRequest():
            return reply(422, exc.body())
        case IntegrityError():
            log.info("Refused by the database: %s", exc)
            return reply(409, {"detail": INTEGRITY})
        case OperationalError():
            log.warning("The database is not able to answer now: %s", exc)
            response = reply(503, {"exception_message": "Service Unavailable"})
            response["Retry-After"] = "1"
            return response
        case DatabaseError():
            log.info("Refused by the database: %s", exc)
            return reply(422, {"detail": "A value in the request cannot be stored."})
        case Http404() | exceptions.NotFound():
            return reply(404, {"detail": "Not Found"})
        case exceptions.MethodNotAllowed():
            return reply(405, {"detail": "Method Not Allowed"})
        case PermissionDenied() | exceptions.PermissionDenied():
            return reply(403, {"detail": "Forbidden"})
        case RequestDataTooBig():
            return reply(413, {"detail": "The request body is too large."})
    log.error("Unhandled error", exc_info=exc)
    return reply(500, {"exception_message": "Internal Server Error"})
