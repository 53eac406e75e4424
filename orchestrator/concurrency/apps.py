from __future__ import annotations

from django.apps import AppConfig


class ConcurrencyConfig(AppConfig):
    name = "orchestrator.concurrency"
    label = "concurrency"
    verbose_name = "Concurrency"
