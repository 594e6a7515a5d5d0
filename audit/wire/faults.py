"""What can be wrong with a row, and what can be odd about it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row is refused. `index` counts from 0, `line` from 1 where the body has lines."""

    code: str
    detail: str
    pointer: str = ""
    index: int | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Warning:
    """What was odd about an accepted event, and where (a JSON pointer, RFC 6901)."""

    code: str
    detail: str
    pointer: str


class Unreadable(ValueError):
    """A body or a row that is refused, with all its faults."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__(*faults)
        self.faults = faults

    def __str__(self) -> str:
        return "; ".join(fault.detail for fault in self.faults)


@lru_cache(maxsize=4_096)
def escaped(name: str) -> str:
    """A name as a step of a JSON pointer, readable also where it holds what no text may hold."""
    visible = name.encode("utf-8", "backslashreplace").decode().replace("\0", "\\u0000")
    return visible.replace("~", "~0").replace("/", "~1")
