from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import AppConfig

if TYPE_CHECKING:
    from deployments.models import Deployment


class DeploymentsConfig(AppConfig):
    name = "deployments"
    verbose_name = "Deployments"

    def check_run_job_variables(self, deployment: Deployment, variables: dict[str, Any]) -> None:
        """Refuse job variables that a run of `deployment` may not have; for runs, which stand below deployments."""
        from deployments.running import check_job_variables

        check_job_variables(deployment, variables, prefix="Error updating flow run: ")

    def hydrated_input(self, values: dict[str, Any]) -> dict[str, Any]:
        """A run's input with its placeholders filled. Raises BadRequest."""
        from deployments.running import BULK_RUNS, hydrated

        return hydrated(values, BULK_RUNS)
