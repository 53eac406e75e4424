"""Who may change things over the wire."""

from __future__ import annotations

from django.db import models

from orchestrator.core.rows import Row


class CsrfToken(Row):
    """The token a client sends with its changes. Source: auth_client_behaviour.md, section 6."""

    client = models.TextField(unique=True)
    token = models.TextField()
    expiration = models.DateTimeField()

    class Meta:
        verbose_name = "CSRF token"

    def __str__(self) -> str:
        return self.client
