"""Write every secret anew, with the current key."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from orchestrator.blocks.models import BlockDocument
from orchestrator.core.databases import in_one_transaction
from orchestrator.core.encryption import Unreadable, resealed

BATCH = 200


class Command(BaseCommand):
    help = "Encrypt all secrets with the first key; after that the fallback keys are not needed any more."

    def handle(self, *args: Any, **options: Any) -> None:
        keys = list(BlockDocument.objects.exclude(encrypted="").order_by("pk").values_list("pk", flat=True))
        try:
            for start in range(0, len(keys), BATCH):
                in_one_transaction(lambda start=start: rotate(keys[start : start + BATCH]))  # type: ignore[misc]
        except Unreadable as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{len(keys)} blocks are encrypted with the current key.")


def rotate(keys: list[Any]) -> None:
    rows = list(BlockDocument.objects.filter(pk__in=keys).order_by("pk").select_for_update())
    for row, text in zip(rows, resealed([row.encrypted for row in rows]), strict=True):
        BlockDocument.objects.filter(pk=row.pk).update(encrypted=text)
