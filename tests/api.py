"""How tests speak with the API: JSON in, status and JSON out."""

from __future__ import annotations

import json
from typing import Any

from django.test import Client
from django.utils import timezone

CLIENT = Client()


def call(method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """The status and the parsed body of an answer; an empty body is None, and what is no JSON is text."""
    content = b"" if body is None else json.dumps(body, default=str).encode()
    response = CLIENT.generic(method, f"/api{path}", content, "application/json", headers={"user-agent": "test", **headers})
    raw = b"".join(response) if response.streaming else response.content  # type: ignore[arg-type,attr-defined]
    if not raw:
        return response.status_code, None
    try:
        return response.status_code, json.loads(raw)
    except json.JSONDecodeError:
        return response.status_code, raw.decode()


def post(path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    return call("POST", path, body if body is not None else {}, **headers)


def get(path: str) -> tuple[int, Any]:
    return call("GET", path)


def now() -> str:
    return timezone.now().isoformat()
