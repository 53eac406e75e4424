"""Filter of deployments (contract: filters_sorts.md, section 2.4)."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import Q

from flowruns.models import Flow
from orchestrator.core.criteria import Criterion, IgnoredCriterion, TagsCriterion, like
from orchestrator.core.filters import RowFilter, Through


class EitherName(Criterion):
    """The deployment's own name, or its flow's."""

    def q(self, body: Any) -> Q:
        if not body.like_:
            return Q()
        return like("name", body.like_) | Q(flow_id__in=Flow.objects.filter(like("name", body.like_)).values("pk"))


class DeploymentFilter(RowFilter):
    wire_key = "deployments"
    label = "deployments.Deployment"
    id = Criterion(UUID, "any_ not_any_", path="pk")
    name = Criterion(str, "any_ like_", path="name")
    flow_or_deployment_name = EitherName(str, "like_")
    paused = Criterion(bool, "eq_", path="paused")
    tags = TagsCriterion()
    work_queue_name = Criterion(str, "any_", path="work_queue_name")
    concurrency_limit = IgnoredCriterion(int, "ge_ le_ is_null_")
    through = {
        "flows": Through("flowruns.Flow", id="flow_id"),
        "flow_runs": Through("flowruns.FlowRun", "task_runs", deployment_id="pk"),
        "work_pool_queues": Through("workqueues.WorkQueue", "work_pools", id="work_queue_id"),
    }
