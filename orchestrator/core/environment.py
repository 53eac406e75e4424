"""Typed readers of the environment. Each refuses nonsense with the variable's name in the message."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off", ""}


def env_text(*names: str, default: str = "") -> str:
    """The first of `names` that is set, else `default`. Several names are one setting and its older spellings."""
    return next((os.environ[name] for name in names if name in os.environ), default)


def env_bool(*names: str, default: bool) -> bool:
    text = env_text(*names, default=str(default)).strip().lower()
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise ImproperlyConfigured(f"{names[0]} must be true or false, not {text!r}.")


def env_choice(*names: str, default: str, choices: Sequence[str]) -> str:
    """One of `choices`, whatever the case it is written in."""
    text = env_text(*names, default=default).strip()
    found = next((choice for choice in choices if choice.lower() == text.lower()), None)
    if found is None:
        raise ImproperlyConfigured(f"{names[0]} must be one of {', '.join(choices)}, not {text!r}.")
    return found


def env_int(*names: str, default: int, at_least: int = 0) -> int:
    text = env_text(*names, default=str(default))
    try:
        value = int(text)
    except ValueError:
        raise ImproperlyConfigured(f"{names[0]} must be a whole number, not {text!r}.") from None
    if value < at_least:
        raise ImproperlyConfigured(f"{names[0]} must be at least {at_least}, not {value}.")
    return value


def env_seconds(*names: str, default: float) -> timedelta:
    """A duration given as a number of seconds, more than zero."""
    text = env_text(*names, default=str(default))
    try:
        value = timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        raise ImproperlyConfigured(f"{names[0]} must be a number of seconds, not {text!r}.") from None
    if value <= timedelta(0):
        raise ImproperlyConfigured(f"{names[0]} must be more than zero seconds, not {text!r}.")
    return value


def env_list(*names: str, default: Sequence[str]) -> list[str]:
    """A comma-separated list."""
    text = env_text(*names, default=",".join(default))
    return [part.strip() for part in text.split(",") if part.strip()]


def kept_secret(path: Path) -> str:
    """The secret in the file at `path`, made on first use and readable by its owner alone."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    secret = secrets.token_urlsafe(50)
    with os.fdopen(handle, "w") as file:
        file.write(secret)
    return secret


def derived_key(secret: str) -> str:
    """A Fernet key made of the site's secret: where that is shared between machines, so is this."""
    digest = hashlib.blake2b(secret.encode(), digest_size=32, person=b"orchestrator sec").digest()
    return base64.urlsafe_b64encode(digest).decode()


def prepare_threshold(text: str) -> int | None:
    """After how many uses of a connection's statement it is kept planned; `off` behind a pooler that shares connections."""
    if text == "off":
        return None
    if not text.isdecimal():
        raise ImproperlyConfigured(f"prepare_threshold in DATABASE_URL must be a number or off, not {text!r}.")
    return int(text)


def database(url: str) -> dict[str, object]:
    """Django's database entry for `sqlite:///path` or `postgresql://user:password@host:port/name?option=value`."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": unquote(parts.path[1:]),
            # A connection reads the planner's statistics (core/services.py) when it opens.
            "CONN_MAX_AGE": 3600,
            "OPTIONS": {
                # A write transaction takes its lock at BEGIN: one that read first could never be granted it later.
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": (
                    "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA temp_store=MEMORY;"
                    "PRAGMA cache_size=-16000; PRAGMA mmap_size=134217728; PRAGMA journal_size_limit=67108864;"
                    "PRAGMA wal_autocheckpoint=4000;"
                ),
            },
        }
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ImproperlyConfigured("DATABASE_URL must start with sqlite:/// or postgresql://.")
    options: dict[str, object] = dict(parse_qsl(parts.query))
    host = options.pop("host", parts.hostname or "")
    options.setdefault("application_name", "orchestrator")
    options["prepare_threshold"] = prepare_threshold(str(options.get("prepare_threshold", "2")))
    options["pool"] = {"min_size": 1, "max_size": env_int("ORCHESTRATOR_DATABASE_POOL_SIZE", default=16, at_least=1)}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path[1:]),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": host,
        "PORT": str(parts.port or ""),
        "CONN_HEALTH_CHECKS": False,
        "OPTIONS": options,
    }
