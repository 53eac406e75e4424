from __future__ import annotations

from django.apps import AppConfig


class FlowrunsConfig(AppConfig):
    name = "flowruns"
    verbose_name = "Runs"
