from __future__ import annotations

from deployments.models.deployments import Deployment
from deployments.models.schedules import DeploymentSchedule

__all__ = ["Deployment", "DeploymentSchedule"]
