from __future__ import annotations

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class CoreConfig(AppConfig):
    name = "orchestrator.core"
    label = "core"
    verbose_name = "Core"

    def ready(self) -> None:
        """Every app's filters are known by key, so that one app's routes may filter by another's rows."""
        autodiscover_modules("filters")
