"""Checkpoints: the head of the tree as the text that is signed (C2SP tlog-checkpoint)."""

from __future__ import annotations

from dataclasses import dataclass

from audit.ledger.encoding import (
    from_decimal,
    from_hash,
    require_hash,
    require_line,
    require_number,
    to_base64,
    to_lines,
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log says of itself: at this size, its tree has this root.

    `origin` is the log's name; unlike a key's name it may hold spaces. Raises `ValueError` for
    values that no checkpoint can have.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_line(self.origin, "the origin of a checkpoint")
        require_number(self.size, "the size of a checkpoint")
        require_hash(self.root, "the root of a checkpoint")
        for line in self.extensions:
            require_line(line, "an extension line of a checkpoint")

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read a note's text, whose signatures are another matter. Raises `ValueError`."""
        lines = to_lines(text, "a checkpoint")
        if len(lines) < 3:
            raise ValueError("a checkpoint has three lines: the origin, the size and the root")
        origin, size, root, *extensions = lines
        return cls(
            origin,
            from_decimal(size, "the size of a checkpoint"),
            from_hash(root, "the root of a checkpoint"),
            tuple(extensions),
        )

    def text(self) -> str:
        """What the log and its witnesses sign."""
        lines = (self.origin, str(self.size), to_base64(self.root), *self.extensions)
        return "".join(f"{line}\n" for line in lines)
