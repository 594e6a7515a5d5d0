"""How many events a minute a key may send: one bucket a key, in the database, for all processes.

A bucket holds one minute's events and fills evenly. A request goes through while the bucket holds
its events, or is full; a batch larger than the bucket goes through too, and is paid back by
waiting. Only a key with a rate pays for it: one statement a request.
"""

from __future__ import annotations

import math
from typing import Any

from django.db import connections

from audit.enums import AuditAction
from audit.models import ApiKey
from audit.recorder import audit

# What is in the bucket by now. A clock that was set back fills nothing.
_LEVEL = """least(%(rate)s, bucket.tokens + %(rate)s / 60.0
    * greatest(0, extract(epoch FROM clock_timestamp() - bucket.filled_at))::double precision)"""

_TAKE = f"""
    INSERT INTO audit_throttle AS bucket (prefix, tokens, filled_at)
    VALUES (%(prefix)s, %(rate)s - %(cost)s, clock_timestamp())
    ON CONFLICT (prefix) DO UPDATE
    SET tokens = {_LEVEL} - %(cost)s, filled_at = clock_timestamp()
    WHERE {_LEVEL} >= least(%(rate)s, %(cost)s)
    RETURNING tokens
"""
_LOOK = f"""
    WITH told AS (
        UPDATE audit_throttle SET told_at = clock_timestamp()
        WHERE prefix = %(prefix)s
          AND (told_at IS NULL OR told_at < clock_timestamp() - interval '1 minute')
        RETURNING prefix)
    SELECT {_LEVEL}, EXISTS (SELECT FROM told) FROM audit_throttle bucket
    WHERE prefix = %(prefix)s
"""


class Throttled(Exception):
    """The key sent as many events as it may; `retry_after` are the seconds it has to wait."""

    def __init__(self, *, limit: int, remaining: int, retry_after: int) -> None:
        super().__init__(
            f"This key may send {limit} events a minute, and its allowance is used up. "
            f"Nothing was stored; try again in {retry_after} seconds."
        )
        self.limit, self.remaining, self.retry_after = limit, remaining, retry_after


def take(key: ApiKey, events: int, *, endpoint: str) -> None:
    """Take this many events out of the key's bucket. Raises `Throttled` where it cannot be.

    The refusal is recorded as `rate_limit_check_denied`, once a minute and key at most: a flood
    must not be able to write evidence.
    """
    if key.rate is None:
        return
    values: dict[str, Any] = {"prefix": key.prefix, "rate": float(key.rate), "cost": float(events)}
    with connections["default"].cursor() as cursor:
        cursor.execute(_TAKE, values)
        if cursor.fetchone() is not None:
            return
    _refuse(key, values, endpoint)


def _refuse(key: ApiKey, values: dict[str, Any], endpoint: str) -> None:
    rate, cost = values["rate"], values["cost"]
    with connections["default"].cursor() as cursor:
        cursor.execute(_LOOK, values)
        level, is_first = cursor.fetchone()
    throttled = Throttled(
        limit=int(rate),
        remaining=max(0, math.floor(level)),
        retry_after=max(1, math.ceil((min(rate, cost) - level) * 60 / rate)),
    )
    if is_first:
        context = {
            "endpoint": endpoint,
            "identifier": f"api-key:{key.prefix}",
            "scope": "user",  # of the scopes that the seed names: the key is the user here
            "retry_after": throttled.retry_after,
            "limit": throttled.limit,
            "remaining": throttled.remaining,
        }
        audit.record_sync(action=AuditAction.RATE_LIMIT_CHECK_DENIED, context=context)
    raise throttled
