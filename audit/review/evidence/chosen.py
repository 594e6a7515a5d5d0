"""Of which days and categories evidence is wanted."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from audit.enums import Category
from audit.review.days import zone

MOST_DAYS = 92
"""How many days one file covers: a quarter."""


class BadRange(ValueError):
    """Days of which there is no evidence; the text says why."""


class Chosen(NamedTuple):
    """Of which days and categories evidence is wanted, and as it is at which moment."""

    first: date
    last: date
    categories: tuple[Category, ...]
    at: datetime

    @property
    def filter(self) -> str:
        """What was chosen, as the event of an export names it."""
        given = [("from", str(self.first)), ("to", str(self.last))]
        if len(self.categories) < len(Category):
            given += [("category", one.value) for one in self.categories]
        return "&".join(f"{name}={value}" for name, value in given)


def chosen(first: date, last: date, categories: Collection[Category], at: datetime) -> Chosen:
    """Days of which evidence can be made. Raises `BadRange`."""
    if last < first:
        raise BadRange(f"the first day, {first}, lies after the last one, {last}")
    if (last - first).days >= MOST_DAYS:
        raise BadRange(f"at most {MOST_DAYS} days go into one file")
    if first.year < 1970 or last > at.astimezone(ZoneInfo(zone())).date():
        raise BadRange("days have to lie between 1970 and today")
    return Chosen(first, last, tuple(one for one in Category if one in categories), at)
