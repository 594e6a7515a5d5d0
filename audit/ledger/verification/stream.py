"""Leaf by leaf through the log: events, tiles and checkpoints as they stand beside each other."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from audit.canonical import time_text
from audit.ledger import merkle
from audit.ledger.merkle import HASH_BYTES
from audit.ledger.verification import completeness
from audit.ledger.verification.events import Found
from audit.ledger.verification.faults import Faults, Kind
from audit.ledger.verification.sequences import Gap, Sequences
from audit.ledger.verification.signatures import Keys, check_checkpoint
from audit.ledger.verification.tree import Tree, check_own_leaves
from audit.models import Checkpoint
from audit.partitions import month_of

CLOCK_SKEW = timedelta(seconds=10)
"""How far the clocks of the hosts of web and workers may be apart."""

MARGIN = 10_000
"""Of so many leaves after the first one no missing numbers are told: they may lie before it."""


class Stream:
    """Takes blocks of leaves in order, from `first` to before `size`, and names what is wrong.

    `late`: what was recorded before has come as a whole, so that numbers that are missing are
    missing for good. Raises `LookupError` or `ValueError` as `Tree` does.
    """

    def __init__(
        self, first: int, size: int, late: datetime, keys: Keys, faults: Faults, using: str
    ) -> None:
        self._keys, self._faults, self._using = keys, faults, using
        self._late = time_text(late)
        self._first = self.at = first
        checkpoints = Checkpoint.objects.using(using)
        signed = checkpoints.filter(size=size).first()
        self._tree = Tree(first, size, bytes(signed.root) if signed else None, using)
        before = checkpoints.filter(size__lte=first).order_by("size").last()
        self._signed_at = before.signed_at if before else None
        if before and before.size == first == 0:
            self._check_checkpoint(before, merkle.EMPTY_ROOT)
        self._pruned_months = completeness.pruned_months(using)
        self._pruned_spans: list[range] = []
        self._sequences = Sequences()

    @property
    def pruned(self) -> int:
        """How many events were pruned."""
        return sum(map(len, self._pruned_spans))

    def take(self, found: Found) -> None:
        """The next block."""
        for fault in found.faults:
            self._faults.take(fault)
        self._check_presence(found)
        leaves = self._tree.settle(found, self._faults)
        check_own_leaves(found, self._faults)
        self._check_checkpoints(found, leaves)
        self._tree.grow(leaves, self._faults)
        for stretch in found.numbers:
            self._name_gaps(self._sequences.add(stretch))
        self.at += len(found.leaves)

    def finish(self) -> None:
        """What can be said only after the last block."""
        self._name_gaps(self._sequences.gaps())

    def _check_presence(self, found: Found) -> None:
        for index in found.absent:
            event_id = found.ids[index - found.start]
            if event_id is None:
                self._faults.add(Kind.MISSING_ROW, "there is no leaf of this number", index=index)
            elif month_of(UUID(event_id)) in self._pruned_months:
                self._prune(index)
            else:
                detail = "the event that was sealed here is gone"
                self._faults.add(Kind.MISSING_ROW, detail, index=index, event_id=event_id)

    def _prune(self, index: int) -> None:
        spans = self._pruned_spans
        if spans and spans[-1].stop == index:
            spans[-1] = range(spans[-1].start, index + 1)
        else:
            spans.append(range(index, index + 1))

    # --- checkpoints ---------------------------------------------------------------------------

    def _check_checkpoints(self, found: Found, leaves: bytes) -> None:
        """Those within the block, and the times of all its events up to the one after it."""
        frontier, start, stop = self._tree.frontier, found.start, found.start + len(found.leaves)
        at = start
        for checkpoint in self._upto_next(start, stop):
            end = min(checkpoint.size, stop)
            _check_times(found, range(at, end), checkpoint, self._faults)
            frontier.extend(leaves[(at - start) * HASH_BYTES : (end - start) * HASH_BYTES])
            if checkpoint.size == end:
                self._check_checkpoint(checkpoint, frontier.root())
            at = end
        frontier.extend(leaves[(at - start) * HASH_BYTES :])

    def _upto_next(self, start: int, end: int) -> Iterable[Checkpoint]:
        """The checkpoints of more than `start` leaves, up to the first with `end` or more."""
        following = Checkpoint.objects.using(self._using).filter(size__gt=start).order_by("size")
        beyond = following.filter(size__gte=end).values_list("size", flat=True).first()
        return following.filter(size__lte=end if beyond is None else beyond)

    def _check_checkpoint(self, checkpoint: Checkpoint, root: bytes) -> None:
        check_checkpoint(checkpoint, self._keys, self._faults)
        if bytes(checkpoint.root) != root:
            detail = "the leaves do not give the root of the checkpoint"
            self._faults.add(Kind.INCONSISTENT, detail, size=checkpoint.size)
        if self._signed_at and checkpoint.signed_at < self._signed_at - CLOCK_SKEW:
            detail = f"it was signed at {_text(checkpoint.signed_at)}, the one before it later"
            self._faults.add(Kind.TIME_REGRESSION, detail, size=checkpoint.size)
        self._signed_at = checkpoint.signed_at

    # --- numbers of sources --------------------------------------------------------------------

    def _name_gaps(self, gaps: Iterable[Gap]) -> None:
        """Name numbers that are missing, unless they may still come, or were not looked at."""
        for gap in gaps:
            is_new = gap.recorded_at >= self._late
            is_at_the_edge = self._first and gap.before < self._first + MARGIN
            if is_new or is_at_the_edge or self._is_pruned(gap):
                continue
            numbers = f"{gap.first} to {gap.last}" if gap.last > gap.first else f"{gap.first}"
            detail = f"{gap.source} has no event with the number {numbers}"
            self._faults.add(Kind.SOURCE_SEQ_GAP, detail, index=gap.before)

    def _is_pruned(self, gap: Gap) -> bool:
        """Whether events were pruned between the two numbers: they may have had the others."""
        first, last = sorted((gap.after, gap.before))
        return any(span.start < last and span.stop > first for span in self._pruned_spans)


def _check_times(found: Found, indexes: range, checkpoint: Checkpoint, faults: Faults) -> None:
    """No event may have been recorded after it was sealed. Times of entries sort as text."""
    latest = time_text(checkpoint.signed_at + CLOCK_SKEW)
    start = found.start
    if max(found.times[indexes.start - start : indexes.stop - start], default="") <= latest:
        return
    for index in indexes:
        if (time := found.times[index - start]) > latest:
            detail = f"recorded at {time}, and sealed at {_text(checkpoint.signed_at)} before that"
            faults.add(
                Kind.TIME_REGRESSION,
                detail,
                index=index,
                event_id=found.ids[index - start],
                size=checkpoint.size,
            )


def _text(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
