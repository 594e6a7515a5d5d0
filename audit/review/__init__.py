"""What people do about alerts and events: decide, follow up, mark. Each deed is an event, too.

The rules stand in the database, which keeps them whoever writes; here each deed is one function and
one transaction with the event that tells of it. `Refused` says which rule was in the way.
"""

from audit.review.deeds import MOST_WORDS, PERMISSION, Refused, reviewers

__all__ = ["MOST_WORDS", "PERMISSION", "Refused", "reviewers"]
