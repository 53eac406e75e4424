"""Filter of automations (contract: filters_sorts.md, section 2.11)."""

from __future__ import annotations

from uuid import UUID

from orchestrator.core.criteria import Criterion, TagsCriterion
from orchestrator.core.filters import RowFilter
from orchestrator.core.wire import UtcMoment


class AutomationFilter(RowFilter):
    wire_key = "automations"
    label = "automations.Automation"
    id = Criterion(UUID, "any_", path="pk")
    name = Criterion(str, "any_", path="name")
    created = Criterion(UtcMoment, "before_", path="created")
    tags = TagsCriterion()
