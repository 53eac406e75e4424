"""Bodies of the block and variable routes (contract: blocks_variables.md, sections 1 to 6)."""

from __future__ import annotations

import re
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, Field, model_validator

from orchestrator.core import json_body
from orchestrator.core.wire import Name, Object, Tags, Text, WireModel

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


SLUG = re.compile(r"[a-z0-9-]+")


def plain_name(what: str) -> Any:
    def check(text: str) -> str:
        if not SLUG.fullmatch(text):
            raise ValueError(f"{what} must only contain lowercase letters, numbers, and dashes.")
        return text

    return AfterValidator(check)


Url = Annotated[str, Field(max_length=10_000), AfterValidator(str.strip)]
Slug = Annotated[str, Field(max_length=1_000), plain_name("Block type slug")]
DocumentName = Annotated[str, Field(max_length=1_000), plain_name("Block document name")]
Capabilities = Annotated[list[str], Field(max_length=1_000)]


class BlockTypeUpdate(WireModel):
    logo_url: Url | None = None
    documentation_url: Url | None = None
    description: Text | None = None
    code_example: Text | None = None


class BlockTypeCreate(BlockTypeUpdate):
    name: Name
    slug: Slug


class BlockSchemaCreate(WireModel):
    fields: Object
    block_type_id: UUID
    capabilities: Capabilities = []
    version: Text = "non-versioned"


class BlockDocumentCreate(WireModel):
    name: DocumentName | None = None
    data: Object
    block_schema_id: UUID
    block_type_id: UUID
    is_anonymous: bool = False

    @model_validator(mode="after")
    def named(self) -> BlockDocumentCreate:
        if not self.is_anonymous and not self.name:
            raise ValueError("Names must be provided for block documents.")
        return self


class BlockDocumentUpdate(WireModel):
    data: Object | None = None
    block_schema_id: UUID | None = None
    merge_existing_data: bool = True


class StorageUpdate(WireModel):
    default_result_storage_block_id: UUID
