"""Filters of variables (contract: filters_sorts.md, section 2.10)."""

from __future__ import annotations

from uuid import UUID

from orchestrator.core.criteria import Criterion, TagsCriterion
from orchestrator.core.filters import RowFilter


class VariableFilter(RowFilter):
    wire_key = "variables"
    label = "blocks.Variable"
    id = Criterion(UUID, "any_", path="pk")
    name = Criterion(str, "any_ like_", path="name")
    tags = TagsCriterion("all_ is_null_")
