from __future__ import annotations

from django.apps import AppConfig


class BlocksConfig(AppConfig):
    name = "orchestrator.blocks"
    label = "blocks"
    verbose_name = "Blocks"
