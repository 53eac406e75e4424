from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class BlocksConfig(AppConfig):
    name = "orchestrator.blocks"
    label = "blocks"
    verbose_name = "Blocks"

    def ready(self) -> None:
        post_migrate.connect(install_system_types, sender=self)


def install_system_types(**_: Any) -> None:
    from orchestrator.blocks.system import install

    install()
