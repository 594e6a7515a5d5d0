"""The bars over the list: how many events of which outcome fall into which stretch of time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise

from django.http import QueryDict
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from audit.admin.links import events_url
from audit.counts import DAY, FEWEST, HOUR, WEEK, floor
from audit.enums import Category, Outcome
from audit.filters import BadFilter

BARS = 48
"""How many bars there are at most."""

MINUTE, TICK = timedelta(minutes=1), timedelta(microseconds=1)

STEPS = [HOUR * n for n in (1, 2, 3, 6, 12)] + [DAY * n for n in (1, 2, 7, 14, 28, 91, 182, 364)]
"""How long the stretch of one bar may be."""

FORMS = {DAY: "%Y-%m-%d", MINUTE: "%Y-%m-%dT%H:%M", TICK: "%Y-%m-%dT%H:%M:%S.%f"}
"""How filters write a time of how long."""

HEIGHT, PITCH = 60, 10
"""Units of the drawing: its height, and how far the bars are apart."""

Kind = Outcome | Category

STACKS: dict[str, tuple[Kind, ...]] = {
    "outcome": (Outcome.FAILURE, Outcome.PENDING, Outcome.INFORMATIONAL, Outcome.SUCCESS),
    "category": tuple(Category),
}
"""What bars may be stacked by, from the foot of a bar up: failures stand on the line, where they
compare best."""

TICKS = 4
"""How many stretches the axis names, beside its end."""


@dataclass(frozen=True, slots=True)
class Part:
    """One outcome's or category's part of a bar. `y` is its upper end, from the drawing's top."""

    kind: Kind
    count: int
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time (`end` excluded) with its events; as filters, and as the list's address."""

    start: datetime
    end: datetime
    x: int
    counts: Counter[str]
    parts: list[Part]
    after: str
    before: str
    url: str

    @property
    def total(self) -> int:
        return self.counts.total()

    def says(self, zone: tzinfo) -> str:
        """When it was, how many events, and how many of which kind."""
        parts = "".join(f", {part.count:,} {part.kind.label.lower()}" for part in self.parts)
        events = "event" if self.total == 1 else "events"
        when = f"{_minute(self.start, zone)} to {_minute(self.end, zone)}"
        return f"{when}: {self.total:,} {events}{parts}"


def _minute(at: datetime, zone: tzinfo) -> str:
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M}"


@dataclass(frozen=True, slots=True)
class Histogram:
    """What the page draws, and says in a table to those who see no drawing; times are a zone's."""

    bars: list[Bar]
    zone: tzinfo
    stack: str = "outcome"

    @property
    def peak(self) -> int:
        return max(bar.total for bar in self.bars)

    @property
    def end(self) -> datetime:
        return self.bars[-1].end

    @property
    def form(self) -> str:
        """How Django's templates write a time on the axis."""
        longest = max(bar.end - bar.start for bar in self.bars)
        return "j M Y" if longest >= DAY else "j M H:i"

    @property
    def width(self) -> int:
        return len(self.bars) * PITCH

    @property
    def ticks(self) -> list[datetime]:
        return [self.bars[len(self.bars) * n // TICKS].start for n in range(TICKS)]

    @property
    def kinds(self) -> list[Kind]:
        """The outcomes, or categories, of which there are any."""
        stacked = STACKS[self.stack]
        return [one for one in stacked if any(bar.counts[one.value] for bar in self.bars)]

    @property
    def drawn(self) -> SafeString:
        """The bars as SVG, each a link over the whole height, with its parts."""
        return format_html_join(
            "\n",
            '<a href="{}" tabindex="-1" data-after="{}" data-before="{}"><title>{}</title>'
            '<rect class="ground" x="{}" y="0" width="{}" height="{}"/>{}</a>',
            (
                (
                    bar.url,
                    bar.after,
                    bar.before,
                    bar.says(self.zone),
                    bar.x,
                    PITCH,
                    HEIGHT,
                    _svg(bar),
                )
                for bar in self.bars
            ),
        )

    @property
    def rows(self) -> SafeString:
        """The bars in which something happened as rows, with a number for each of `kinds`."""
        return format_html_join(
            "\n",
            '<tr><th scope="row"><a href="{}">{}</a></th><td class="time">{}</td>{}</tr>',
            (
                (bar.url, _minute(bar.start, self.zone), _minute(bar.end, self.zone), cells)
                for bar in self.bars
                if bar.total and (cells := _numbers(bar, self.kinds))
            ),
        )


def _svg(bar: Bar) -> SafeString:
    return format_html_join(
        "",
        '<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>',
        ((part.kind.value, bar.x, part.y, PITCH - 1, part.height) for part in bar.parts),
    )


def _numbers(bar: Bar, kinds: Sequence[Kind]) -> SafeString:
    numbers = [bar.total, *(bar.counts[kind.value] for kind in kinds)]
    return format_html_join("", '<td class="number">{}</td>', ((f"{n:,}",) for n in numbers))


def histogram(
    counted: Sequence[tuple[datetime, str, int]],
    unit: timedelta,
    start: datetime | None,
    end: datetime | None,
    kept: list[tuple[str, str]],
    zone: tzinfo = UTC,
    stack: str = "outcome",
) -> Histogram | None:
    """Bars from counts of (begin of a unit, kind, events); None where they would be fewer than two.

    A unit is an hour, a day or a week; a kind is an outcome or a category, as `stack` says. `start`
    and `end` are those of the filter, if it has any, else those of the counts: the first and the
    last bar reach no further. `kept` are the list's parameters, of which each bar's address
    replaces the time range. Bars are cut by UTC; `zone` is whose times the page says.
    """
    if not counted:
        return None
    first, last = min(at for at, _, _ in counted), max(at for at, _, _ in counted) + unit
    reach = min(start or first, first), max(end or last, last)
    # A filter may reach over ages.
    scale = _scale(*reach, unit) or _scale(first, last, unit)
    if scale is None:
        return None
    begin, step, count = scale
    bins = [Counter[str]() for _ in range(count)]
    for at, kind, events in counted:
        bins[(at - begin) // step][kind] += events
    if len(bins) < 2:
        return None
    per_event = HEIGHT / max(one.total() for one in bins)
    rest = [pair for pair in kept if pair[0] not in ("occurred_after", "occurred_before")]
    cuts = [begin + n * step for n in range(count + 1)]
    cuts[0] = max(cuts[0], start or cuts[0])
    cuts[-1] = min(cuts[-1], end or cuts[-1])
    bars = [
        _bar(n, *between, counts, per_event, rest, STACKS[stack])
        for n, (between, counts) in enumerate(zip(pairwise(cuts), bins, strict=True))
    ]
    return Histogram(bars, zone, stack)


def stack_of(query: QueryDict) -> str:
    """What a URL has the bars stacked by. Raises `BadFilter`."""
    stack = query.get("stack", "") or "outcome"
    if stack not in STACKS:
        raise BadFilter({"stack": [f"bars are stacked by {' or '.join(STACKS)}"]})
    return stack


def steps_for(start: datetime | None, end: datetime) -> list[timedelta]:
    """What to count by: weeks, days or hours, but for those of which there would be too few."""
    return [unit for unit in (WEEK, DAY) if start is None or end - start >= FEWEST * unit] + [HOUR]


def _scale(
    first: datetime, last: datetime, unit: timedelta
) -> tuple[datetime, timedelta, int] | None:
    """Where the first bar begins, how long each is and how many; None where it takes too many."""
    for step in STEPS[STEPS.index(unit) :]:
        begin = _floor(first, step)
        count = -(-(last - begin) // step)
        if count <= BARS:
            return begin, step, count
    return None


def _floor(at: datetime, step: timedelta) -> datetime:
    """The begin of the week or day that `at` lies in, or of so many hours of it."""
    return floor(at, next((unit for unit in (WEEK, DAY) if not step % unit), step))


def _bar(
    index: int,
    start: datetime,
    end: datetime,
    counts: Counter[str],
    per_event: float,
    rest: list[tuple[str, str]],
    stacked: Sequence[Kind],
) -> Bar:
    after, before = _range(start, end)
    return Bar(
        start=start,
        end=end,
        x=index * PITCH,
        counts=counts,
        parts=list(_parts(counts, per_event, stacked)),
        after=after,
        before=before,
        url=events_url([*rest, ("occurred_after", after), ("occurred_before", before)]),
    )


def _parts(counted: Counter[str], per_event: float, stacked: Sequence[Kind]) -> Iterator[Part]:
    below = 0
    for kind in stacked:
        if count := counted[kind.value]:
            below += count
            yield Part(
                kind, count, round(HEIGHT - below * per_event, 2), round(count * per_event, 2)
            )


def _range(start: datetime, end: datetime) -> tuple[str, str]:
    """A stretch as filters: of whole days or minutes, or exact. Both ends are included."""
    unit = next(one for one in FORMS if start == floor(start, one) and end == floor(end, one))
    return start.strftime(FORMS[unit]), (end - unit).strftime(FORMS[unit])
