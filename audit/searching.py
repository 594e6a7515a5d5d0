"""Free text: the words of each event, in a table of their own that follows the log.

Off ingest's way, because to find the words of an event and to index them costs as much as to store
it; a follower does that, moments after it was sealed. Words are what PostgreSQL's parser makes of a
text under its configuration 'simple': e-mail addresses whole, nothing stemmed or left out, in lower
case.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_
from uuid import UUID

from django.contrib.postgres.search import SearchQuery
from django.db import connections
from django.db.models import Q

FOLLOWER = "searcher"

SEARCHED = ("user_id", "subject_id", "resource_id", "user_agent", "correlation_id", "request_id")
"""The fields that free text looks into, beside all texts and numbers of the context."""

# The parser would take `Chrome/141.0` and `/v1/accounts` for one word each: see `has_words`, too.
_WORDS = " || ".join(
    [
        f"to_tsvector('simple', translate(concat_ws(' ', {', '.join(SEARCHED)}), '/', ' '))",
        *(
            "jsonb_to_tsvector('simple', "
            f"translate({column}::text, '/', ' ')::jsonb, '[\"string\", \"numeric\"]')"
            for column in ("context", "coalesce(personal_context, 'null')")
        ),
    ]
)

# By an array of ids, which each month's primary key finds: a join would read all months.
_WRITE = f"""
    INSERT INTO audit_searchtext (id, words)
    SELECT id, strip({_WORDS}) FROM audit_auditevent WHERE id = ANY (ARRAY({{ids}}))
    ON CONFLICT (id) DO UPDATE SET words = EXCLUDED.words
"""
_BY_LEAF = _WRITE.format(ids="SELECT event_id FROM audit_leaf WHERE index >= %s AND index < %s")
_BY_ID = _WRITE.format(ids="SELECT unnest(%s::uuid[])")


def follow(leaves: range, *, using: str = "worker") -> None:
    """Write the words of the events of these leaves; see `audit.following`."""
    with connections[using].cursor() as cursor:
        cursor.execute(_BY_LEAF, [leaves.start, leaves.stop])


def write(ids: Sequence[UUID], *, using: str = "worker") -> None:
    """Write the words of these events, anew where they changed: what was forgotten is gone."""
    with connections[using].cursor() as cursor:
        cursor.execute(_BY_ID, [list(ids)])


def has_words(texts: Sequence[str]) -> Q:
    """The condition that an event holds all words of one of the texts."""
    words = (text.replace("/", " ") for text in texts)
    query = reduce(or_, (SearchQuery(text, config="simple") for text in words))
    return Q(text__words=query)
