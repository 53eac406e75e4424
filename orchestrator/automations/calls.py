"""Calls to the world outside: webhooks and notifications. No address of a private network is reached by a detour.

The name is resolved here and the connection is made to the address that was looked at: what a name means may change between
a look and a use (DNS rebinding), and a redirect may lead anywhere, so none is followed.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

SECONDS = 15.0
MAX_ANSWER = 1_000_000
METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}


class Refused(Exception):
    """The call was not made, or nobody answered it."""


@dataclass(frozen=True)
class Answer:
    status: int
    body: str
    headers: dict[str, str]


def addresses_of(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Refused(f"{host} cannot be found") from None
    return list(dict.fromkeys(str(item[4][0]) for item in found))


def is_public(address: str) -> bool:
    """Whether an address is one that everybody reaches, or one that an operator allowed."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None) or ip
    allowed = (ipaddress.ip_network(item, strict=False) for item in settings.WEBHOOK_ALLOWED_NETWORKS)
    return (mapped.is_global and not mapped.is_multicast) or any(mapped in network for network in allowed)


def checked(url: str) -> tuple[str, str]:
    """The address to connect to and the host to ask for. Raises Refused."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Refused("only http and https addresses are called")
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise Refused("the address has no such port") from None
    found = addresses_of(parts.hostname, port)
    if not found or not all(map(is_public, found)):
        raise Refused(f"{parts.hostname} is an address of a private network")
    return found[0], parts.hostname


def webhook(data: dict[str, Any], payload: Any) -> Answer:
    """Make the request that a Webhook block describes. Raises Refused."""
    import httpx

    method = str(data.get("method") or "POST").upper()
    if method not in METHODS:
        raise Refused(f"{method} is no method for a webhook")
    url = str(data.get("url") or "")
    address, host = checked(url)
    parts = urlsplit(url)
    numeric = f"[{address}]" if ":" in address else address
    netloc = f"{numeric}:{parts.port}" if parts.port else numeric
    headers = {str(k): str(v) for k, v in (data.get("headers") or {}).items()}
    verify = bool(data.get("verify", True))
    headers["Host"] = parts.netloc.rpartition("@")[2]
    try:
        with httpx.Client(verify=verify, timeout=SECONDS, follow_redirects=False, trust_env=False) as http:
            request = http.build_request(
                method,
                parts._replace(netloc=netloc).geturl(),
                headers=headers,
                json=payload if isinstance(payload, dict | list) else None,
                content=payload if isinstance(payload, str) and payload else None,
                extensions={"sni_hostname": host},
            )
            answer = http.send(request, stream=True)
            try:
                body = b""
                for part in answer.iter_bytes():
                    body += part
                    if len(body) > MAX_ANSWER:
                        break
            finally:
                answer.close()
    except (httpx.HTTPError, ValueError) as error:
        raise Refused(type(error).__name__) from None
    return Answer(answer.status_code, body.decode("utf-8", "replace"), dict(answer.headers))


def notify(slug: str, data: dict[str, Any], subject: str, body: str) -> None:
    """Send a message as a notification block says. Raises Refused.

    Blocks with a plain `url` of the web get a POST of text, as chat services take it.
    """
    url = str(data.get("url") or "")
    if not url.startswith(("http://", "https://")):
        raise Refused(f"blocks of the type {slug} are not supported by this server")
    answer = webhook({"method": "POST", "url": url}, {"text": f"{subject}\n{body}" if subject else body})
    if answer.status >= 300:
        raise Refused(f"the service answered {answer.status}")
