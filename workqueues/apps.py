from __future__ import annotations

from typing import TYPE_CHECKING

from django.apps import AppConfig

if TYPE_CHECKING:
    from workqueues.models import WorkQueue


class WorkqueuesConfig(AppConfig):
    name = "workqueues"
    verbose_name = "Work pools"

    def resolve_queue(self, work_pool_name: str | None, work_queue_name: str | None) -> WorkQueue | None:
        """The existing queue that a run names; for runs, which stand below pools and do not import them."""
        from workqueues.registration import resolve

        return resolve(work_pool_name, work_queue_name, create=False) if work_pool_name else None
