"""The words of a text search: any of the plain ones, all of the `+` ones, none of the `-` ones.

Contract: filters_sorts.md, section 4. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import reduce
from operator import and_, or_
from typing import Any

MAX_QUERY = 200
TERM = re.compile(r'(?P<prefix>[-!+]?)(?:"(?P<phrase>(?:\\.|[^"\\])*)"?|(?P<word>[^\s"]+))')


def terms(query: str) -> Iterator[tuple[str, str]]:
    """The prefix and text of each term of a search."""
    for match in TERM.finditer(query):
        word = match["word"] if match["phrase"] is None else re.sub(r'\\(["\\])', r"\1", match["phrase"])
        if word and word.strip() and not (match["phrase"] is None and word in "-!+"):
            yield match["prefix"], word


@dataclass(frozen=True)
class Words:
    """A search taken apart, in lower case."""

    included: list[str] = field(default_factory=list)
    required: list[str] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, query: str) -> Words:
        words = cls()
        for prefix, word in terms(query):
            group = {"": words.included, "+": words.required}.get(prefix, words.excluded)
            group.append(word.lower())
        return words

    def found_in(self, text: str) -> bool:
        text = text.lower()
        return (
            (not self.included or any(word in text for word in self.included))
            and all(word in text for word in self.required)
            and not any(word in text for word in self.excluded)
        )

    def combined(self, found: Callable[[str], Any], anything: Any) -> Any:
        """One condition of conditions: `found(word)` says that a row contains the word; conditions know `&`, `|`, `~`."""
        clauses = [found(word) for word in self.required] + [~found(word) for word in self.excluded]
        if self.included:
            clauses.append(reduce(or_, map(found, self.included)))
        return reduce(and_, clauses, anything)
