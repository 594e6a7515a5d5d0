"""Evidence of reviews, for an assessor: which days, what its files say, and the ZIP of them."""

from audit.review.evidence.archive import export, write
from audit.review.evidence.chosen import MOST_DAYS, BadRange, Chosen, chosen

__all__ = ["MOST_DAYS", "BadRange", "Chosen", "chosen", "export", "write"]
