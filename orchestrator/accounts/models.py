"""Who may do what over the wire."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from orchestrator.core.fields import TagsField
from orchestrator.core.rows import Row

# What scanners for leaked secrets look for.
KEY_PREFIX = "orck_"
SHOWN_CHARACTERS = 12


class Scope(models.TextChoices):
    READ = "read"  # look at everything but secrets
    WRITE = "write"  # change things, run them, report states
    SECRETS = "secrets"  # read the secrets of blocks


def all_scopes() -> list[str]:
    return list(Scope.values)


class CsrfToken(Row):
    """The token a client sends with its changes. Source: auth_client_behaviour.md, section 6."""

    client = models.TextField(unique=True)
    token = models.TextField()
    expiration = models.DateTimeField()

    class Meta:
        verbose_name = "CSRF token"

    def __str__(self) -> str:
        return self.client


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def good(self, now: datetime) -> Self:
        """Keys that open: neither revoked nor expired, of a user who may come in."""
        alive = Q(expires__isnull=True) | Q(expires__gt=now)
        return self.filter(alive, revoked__isnull=True, user__is_active=True)


class ApiKey(Row):
    """A user's key for programs. Only its digest is kept: the key itself is shown once, to who made it."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="api_keys")
    name = models.TextField()
    # The beginning of the key, by which people tell keys apart.
    shown = models.CharField(max_length=SHOWN_CHARACTERS, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    scopes = TagsField(default=all_scopes)
    expires = models.DateTimeField(null=True, blank=True)
    revoked = models.DateTimeField(null=True, blank=True, editable=False)
    last_used = models.DateTimeField(null=True, editable=False)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} ({self.shown}…)"

    def make(self) -> str:
        """Give the unsaved row a new key; the key, which nobody can read from the row."""
        key = KEY_PREFIX + secrets.token_urlsafe(32)
        self.shown, self.digest = key[:SHOWN_CHARACTERS], digest_of(key)
        return key

    def revoke(self) -> None:
        if self.revoked is None:
            self.revoked = timezone.now()
            self.save(update_fields=["revoked"])


def digest_of(key: str) -> str:
    """A key has 256 bits of chance: a fast digest is as good as a slow one."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
