"""The events of the benchmarks: about 400 bytes, with everything that costs something."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any


def events(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Failed sign-ins with user id, address, user agent, resource id and one unknown key."""
    rng = random.Random(seed)
    for number in range(count):
        yield {
            "action": "user_login_failed",
            "occurred_at": f"2026-11-23T12:{number // 60 % 60:02}:{number % 60:02}.{number:06}Z",
            "user_id": f"u-{rng.randrange(10**6)}",
            "actor_type": "user",
            "resource_type": "session",
            "resource_id": f"s-{rng.getrandbits(48):012x}",
            "correlation_id": f"c-{rng.getrandbits(64):016x}",
            "ip_address": f"192.0.2.{rng.randrange(256)}",
            "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101",
            "context": {
                "reason": "invalid_password",
                "attempts": rng.randrange(9),
                "email": f"p{rng.randrange(10**5)}@example.com",
                "tenant": f"t-{rng.randrange(50)}",
            },
        }
