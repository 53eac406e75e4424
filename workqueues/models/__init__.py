from __future__ import annotations

from workqueues.models.pools import WorkPool, WorkQueue
from workqueues.models.workers import Worker

__all__ = ["WorkPool", "WorkQueue", "Worker"]
