"""What a verification can find wrong. No database, no Django: processes hand faults on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

MOST_KEPT = 1_000
"""How many faults of a kind are kept in full; all are counted."""


class Kind(StrEnum):
    """The kinds of faults, and what each means. Names are for good: tools look for them."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        self = str.__new__(cls, value)
        self._value_, self.meaning = value, meaning
        return self

    # fmt: off
    LEAF_MISMATCH       = "LEAF_MISMATCH",       "an event is not the one that was sealed"
    MISSING_ROW         = "MISSING_ROW",         "a sealed event is not there"
    UNSEALED            = "UNSEALED",            "an event is in no leaf, and not about to be"
    DUPLICATE_EVENT     = "DUPLICATE_EVENT",     "an event is there twice"
    DISCLOSURE_MISMATCH = "DISCLOSURE_MISMATCH", "a personal value is not what was recorded"
    UNEXPLAINED_ERASURE = "UNEXPLAINED_ERASURE", "a personal value is gone, and no erasure says why"
    TILE_MISMATCH       = "TILE_MISMATCH",       "a stored hash is not that of what lies below it"
    INCONSISTENT        = "INCONSISTENT",        "the tree is not the one that was signed"
    SIZE_ROLLBACK       = "SIZE_ROLLBACK",       "the log was larger once"
    SPLIT_VIEW          = "SPLIT_VIEW",          "two trees of one size were signed"
    UNKNOWN_KEY         = "UNKNOWN_KEY",         "no key of this log has signed it"
    BAD_SIGNATURE       = "BAD_SIGNATURE",       "a signature is not valid"
    TIME_REGRESSION     = "TIME_REGRESSION",     "times run backwards"
    SOURCE_SEQ_GAP      = "SOURCE_SEQ_GAP",      "numbers of a source are missing"
    COUNT_MISMATCH      = "COUNT_MISMATCH",      "the kept counts are not those of the events"
    # fmt: on


ABSENCES = frozenset(
    {Kind.MISSING_ROW, Kind.UNSEALED, Kind.UNEXPLAINED_ERASURE, Kind.SOURCE_SEQ_GAP}
)
"""Where there are only these, what is there is right, but something is not there."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: where, as far as it has a place, and in a sentence what."""

    kind: Kind
    detail: str
    index: int | None = None
    event_id: str | None = None
    size: int | None = None
    """The size of the checkpoint that it is about."""

    def as_json(self) -> dict[str, Any]:
        """What is there of it, by name."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(slots=True)
class Faults:
    """All that were found: the first of each kind in full, the others counted."""

    kept: list[Fault] = field(default_factory=list)
    counts: Counter[Kind] = field(default_factory=Counter)

    def add(self, kind: Kind, detail: str, **place: Any) -> None:
        """One more fault; `place` are fields of `Fault`."""
        self.take(Fault(kind, detail, **place))

    def take(self, fault: Fault) -> None:
        """One more fault."""
        self.counts[fault.kind] += 1
        if self.counts[fault.kind] <= MOST_KEPT:
            self.kept.append(fault)
