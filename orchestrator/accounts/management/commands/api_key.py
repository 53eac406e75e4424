"""API keys from the command line: make, list, revoke."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from orchestrator.accounts.models import ApiKey, Scope


class Command(BaseCommand):
    help = "Make, list or revoke keys with which programs come in on behalf of a user."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        create = verbs.add_parser("create", help="make a key and show it, once")
        create.add_argument("user")
        create.add_argument("name")
        create.add_argument("--scope", action="append", choices=Scope.values, help="default: all; may be repeated")
        create.add_argument("--days", type=int, help="how long it is good (default: for ever)")
        verbs.add_parser("list", help="keys with owner, scopes and last use")
        revoke = verbs.add_parser("revoke", help="end a key at once")
        revoke.add_argument("shown", help="the beginning of the key, as `list` shows it")

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, options["verb"])(options)

    def create(self, options: dict[str, Any]) -> None:
        user = get_user_model()._default_manager.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['user']!r}.")
        days = options["days"]
        if days is not None and days < 1:
            raise CommandError("--days must be at least 1.")
        expires = timezone.now() + timedelta(days=days) if days else None
        row = ApiKey(user=user, name=options["name"], scopes=options["scope"] or list(Scope.values), expires=expires)
        key = row.make()
        row.save(force_insert=True)
        self.stdout.write(key)
        self.stderr.write("This key is shown only now.")

    def list(self, options: dict[str, Any]) -> None:
        now = timezone.now()
        good = set(ApiKey.objects.good(now).values_list("pk", flat=True))
        for key in ApiKey.objects.select_related("user").order_by("user__username", "name"):
            state = "good" if key.pk in good else "ended"
            used = f"last used {key.last_used:%Y-%m-%d %H:%M}" if key.last_used else "never used"
            self.stdout.write(f"{key.shown}  {state:5}  {key.user}  {key.name}  {','.join(key.scopes)}  {used}")

    def revoke(self, options: dict[str, Any]) -> None:
        found = list(ApiKey.objects.filter(shown=options["shown"], revoked__isnull=True))
        if len(found) != 1:
            raise CommandError(f"{len(found)} keys begin with {options['shown']!r}.")
        found[0].revoke()
        self.stdout.write(f"{found[0]} opens nothing any more.")
