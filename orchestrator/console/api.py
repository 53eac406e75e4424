"""Root, health and version routes. Contract: conventions.md, section 8."""

from __future__ import annotations

from django.conf import settings
from django.db import DatabaseError, connection
from django.http import HttpResponse
from rest_framework.request import Request

from orchestrator.core.errors import reply
from orchestrator.core.routes import route
from orchestrator.core.viewsets import WireViewSet


class ServerViewSet(WireViewSet):
    def health(self, request: Request) -> HttpResponse:
        return self.answer(True)

    def ready(self, request: Request) -> HttpResponse:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except DatabaseError:
            return reply(503, {"message": "Database is not available"})
        return self.answer({"message": "OK"})

    def hello(self, request: Request) -> HttpResponse:
        return self.answer("👋")

    def version(self, request: Request) -> HttpResponse:
        return self.answer(settings.API_VERSION)

    def admin_version(self, request: Request) -> HttpResponse:
        return self.answer(settings.REFERENCE_VERSION)

    def admin_settings(self, request: Request) -> HttpResponse:
        """What an operator may see of the settings: numbers and switches, no secret and no address."""
        return self.answer(
            {
                "server": {
                    "analytics_enabled": False,
                    "ui": {"show_promotional_content": False},
                    "api": {
                        "default_limit": settings.API_DEFAULT_LIMIT,
                        "csrf_protection_enabled": settings.API_CSRF_PROTECTION,
                        "auth_string": "********" if settings.API_AUTH_STRING else None,
                    },
                    "services": {
                        "scheduler": {
                            "enabled": settings.SCHEDULER_ENABLED,
                            "loop_seconds": settings.SCHEDULER_LOOP.total_seconds(),
                            "deployment_batch_size": settings.SCHEDULER_BATCH_SIZE,
                            "max_runs": settings.SCHEDULER_MAX_RUNS,
                            "min_runs": settings.SCHEDULER_MIN_RUNS,
                            "max_scheduled_time": settings.SCHEDULER_MAX_SCHEDULED_TIME.total_seconds(),
                            "min_scheduled_time": settings.SCHEDULER_MIN_SCHEDULED_TIME.total_seconds(),
                            "insert_batch_size": settings.SCHEDULER_INSERT_BATCH_SIZE,
                        },
                        "late_runs": {
                            "loop_seconds": settings.LATE_RUNS_LOOP.total_seconds(),
                            "after_seconds": settings.LATE_AFTER.total_seconds(),
                        },
                        "foreman": {"loop_seconds": settings.FOREMAN_LOOP.total_seconds()},
                    },
                }
            }
        )


urlpatterns = [
    route("health", ServerViewSet, get="health"),
    route("ready", ServerViewSet, get="ready"),
    route("hello", ServerViewSet, get="hello"),
    route("version", ServerViewSet, get="version"),
    route("admin/version", ServerViewSet, get="admin_version"),
    route("admin/settings", ServerViewSet, get="admin_settings"),
]
