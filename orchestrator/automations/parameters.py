"""Parameters that an automation gives to a run: templates over the event, beside the usual placeholders.

Contract: events_automations.md, section 9. Plain text with a template in it is one, and a single expression keeps its type.
"""

from __future__ import annotations

import re
from typing import Any

from deployments.hydration import KIND, HydrationError, check_template
from orchestrator.core.errors import Unprocessable

ONE_EXPRESSION = re.compile(r"\s*\{\{((?:(?!\}\}).)*)\}\}\s*", re.S)
TEMPLATE = re.compile(r"\{\{|\{%")


def upgraded(value: Any) -> Any:
    """`value` with text that is a template turned into a placeholder for what it renders to."""
    if isinstance(value, dict):
        return value if KIND in value else {key: upgraded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [upgraded(item) for item in value]
    if not isinstance(value, str) or not TEMPLATE.search(value):
        return value
    if found := ONE_EXPRESSION.fullmatch(value):
        template = "{{ (" + found[1].strip() + ") | tojson }}"
        return {KIND: "json", "value": {KIND: "jinja", "template": template}}
    return {KIND: "jinja", "template": value}


def check(parameters: dict[str, Any]) -> None:
    """Raise Unprocessable unless every template among them is one."""
    try:
        check_all(upgraded(parameters))
    except HydrationError as error:
        raise Unprocessable(f"Invalid parameters: {error}") from None


def check_all(value: Any) -> None:
    if isinstance(value, dict):
        if value.get(KIND) == "jinja":
            check_template(value.get("template"))
        for item in value.values():
            check_all(item)
    elif isinstance(value, list):
        for item in value:
            check_all(item)
