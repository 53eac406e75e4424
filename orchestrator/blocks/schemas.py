"""Bodies of the variable routes (contract: blocks_variables.md, sections 1 and 2)."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from orchestrator.core import json_body
from orchestrator.core.wire import Tags, WireModel

MAX_VALUE_BYTES = 5_000
VARIABLE_NAME = re.compile(r"[a-z0-9_-]+")


def variable_name(name: str) -> str:
    if not VARIABLE_NAME.fullmatch(name):
        raise ValueError("Variable name must only contain lowercase letters, numbers, and dashes or underscores.")
    return name


def variable_value(value: Any) -> Any:
    if value is not None and len(json_body.dump(value)) > MAX_VALUE_BYTES:
        raise ValueError("Variable value must be less than 5000 characters")
    return value


VariableName = Annotated[str, Field(max_length=255), AfterValidator(variable_name)]
VariableValue = Annotated[Any, AfterValidator(variable_value)]


class VariableCreate(WireModel):
    name: VariableName
    value: VariableValue
    tags: Tags | None = None


class VariableUpdate(WireModel):
    name: VariableName | None = None
    value: VariableValue = None
    tags: Tags | None = None
