"""Secrets at rest: Fernet (AES-128-CBC with HMAC-SHA256), one current key and older ones that still read.

The library is loaded when the first secret is touched: most processes never do.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.conf import settings

from orchestrator.core import json_body

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet


class Unreadable(Exception):
    """A secret that none of the known keys can read."""


@lru_cache(maxsize=4)
def _box(keys: tuple[str, ...]) -> MultiFernet:
    from cryptography.fernet import Fernet, MultiFernet

    return MultiFernet([Fernet(key) for key in keys])


def box() -> MultiFernet:
    """What encrypts with the first key and decrypts with any."""
    return _box(tuple(settings.ENCRYPTION_KEYS))


def sealed(value: Any) -> str:
    return box().encrypt(json_body.dump(value)).decode()


def opened(text: str) -> Any:
    """Raises Unreadable."""
    from cryptography.fernet import InvalidToken

    try:
        return json_body.parse(box().decrypt(text.encode()))
    except InvalidToken:
        raise Unreadable("This secret was written with a key that is not among the ones known here.") from None


def resealed(texts: Sequence[str]) -> list[str]:
    """The same secrets, written with the first key."""
    from cryptography.fernet import InvalidToken

    try:
        return [box().rotate(text.encode()).decode() for text in texts]
    except InvalidToken:
        raise Unreadable("A secret was written with a key that is not among the ones known here.") from None
