"""Who made or changed an object, when an automation says that it did (contract: conventions.md, section 7)."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from typing import Any
from uuid import UUID

MAX_NAME = 2_000


def _automation(headers: Mapping[str, str]) -> tuple[str, str] | None:
    key, name = headers.get("prefect-automation-id"), headers.get("prefect-automation-name")
    if not key or not name:
        return None
    try:
        return str(UUID(key)), name[:MAX_NAME]
    except ValueError:
        return None


def created_by(headers: Mapping[str, str]) -> dict[str, Any] | None:
    """The automation behind a request that creates; None when there is none or its name is not base64 text."""
    if (found := _automation(headers)) is None:
        return None
    key, name = found
    try:
        text = b64decode(name, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return {"id": key, "type": "AUTOMATION", "display_value": text}


def updated_by(headers: Mapping[str, str]) -> dict[str, Any] | None:
    """The automation behind a request that changes; its name is kept as it was sent."""
    if (found := _automation(headers)) is None:
        return None
    key, name = found
    return {"id": key, "type": "AUTOMATION", "display_value": name}
