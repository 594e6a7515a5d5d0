"""The cast: the platform's users, its administrators, and the applications they meet.

Tables first, then the few functions that make people out of them.
"""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

SOURCES = {
    "web-app": "The web application",
    "mobile-api": "The mobile application's API",
    "sync-worker": "Fetches accounts and transactions from financial providers",
    "admin-console": "Where administrators work",
    "api-gateway": "Decides who may call what, and how often",
}
"""The applications that write events, each with what it is."""

USERS = 400
ADMINISTRATORS = 12

FIRST_NAMES = (
    "Ada", "Ahmed", "Alice", "Amara", "Anna", "Ben", "Bianca", "Carlos", "Chen", "Clara", "Daniel",
    "Diego", "Elena", "Emeka", "Emma", "Fatima", "Felix", "Grace", "Hana", "Hugo", "Ines", "Ivan",
    "Jana", "Jonas", "Kenji", "Lara", "Leila", "Liam", "Lucia", "Marta", "Mateo", "Mei", "Nadia",
    "Noah", "Olga", "Omar", "Priya", "Rosa", "Samir", "Sofia", "Tariq", "Thea", "Victor", "Yuki",
)  # fmt: skip
LAST_NAMES = (
    "Adeyemi", "Almeida", "Andersen", "Bauer", "Bennett", "Castillo", "Chowdhury", "Costa",
    "Diallo", "Dubois", "Eriksen", "Fischer", "Garcia", "Haddad", "Hansen", "Ibrahim", "Ivanova",
    "Jensen", "Kaya", "Khan", "Kowalski", "Larsen", "Lindgren", "Marin", "Mensah", "Moreau",
    "Nakamura", "Novak", "Okafor", "Olsen", "Patel", "Petrov", "Quinn", "Rossi", "Santos",
    "Schmidt", "Silva", "Singh", "Suzuki", "Tanaka", "Torres", "Vargas", "Weber", "Wong", "Zhang",
)  # fmt: skip
MAIL_DOMAINS = ("example.com", "example.org", "example.net")

BROWSERS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/141.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.6 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
)
PHONES = (
    "LedgerMobile/5.12.0 (iPhone; iOS 18.6; Scale/3.00)",
    "LedgerMobile/5.12.1 (Android 15; Pixel 9)",
    "LedgerMobile/5.11.3 (Android 14; SM-S921B)",
)
WORKER_AGENT = "sync-worker/3.4.1"
SCRIPT_AGENT = "python-requests/2.32.5"

PROVIDERS = {
    "schwab": "schwab", "chase": "chase", "fidelity": "fidelity", "vanguard": "vanguard",
    "capital_one": "capital-one", "american_express": "amex", "wells_fargo": "wells-fargo",
}  # fmt: skip
"""Financial providers: name and short name."""

ACCOUNT_TYPES = ("checking", "checking", "savings", "credit_card", "credit_card", "brokerage")

Facts = dict[str, Any]
"""What is known of somebody or something, under the names of `audit.samples.facts.FROM_SCENE`."""


class Person(NamedTuple):
    """Somebody with an account. `connections` are those to financial providers, as facts."""

    user_id: str
    email: str
    addresses: tuple[str, ...]
    browser: str
    phone: str
    connections: tuple[Facts, ...]


class Cast(NamedTuple):
    users: tuple[Person, ...]
    administrators: tuple[Person, ...]


def make_cast(random: Random, users: int = USERS) -> Cast:
    """Everybody who takes part, with so many users; the same for the same state of `random`."""
    names = random.sample(range(_names_for(users + ADMINISTRATORS)), users + ADMINISTRATORS)
    customers = tuple(
        _person(random, f"u-{1001 + index}", name, random.choice(MAIL_DOMAINS), _home(random))
        for index, name in enumerate(names[:users])
    )
    administrators = tuple(
        _person(random, f"a-{101 + index}", name, "example.com", f"198.51.100.{10 + index}")
        for index, name in enumerate(names[users:])
    )
    return Cast(customers, administrators)


def _names_for(people: int) -> int:
    """How many names there have to be: where all are taken, a second Ada Khan is `ada.khan2`."""
    pairs = len(FIRST_NAMES) * len(LAST_NAMES)
    return pairs * -(-people // pairs)


def _person(random: Random, user_id: str, name: int, domain: str, home: str) -> Person:
    rest, first = divmod(name, len(FIRST_NAMES))
    namesakes, last = divmod(rest, len(LAST_NAMES))
    number = namesakes + 1 if namesakes else ""
    return Person(
        user_id=user_id,
        email=f"{FIRST_NAMES[first]}.{LAST_NAMES[last]}{number}@{domain}".lower(),
        addresses=(
            home,
            home,
            f"2001:db8:{random.randint(1, 0xFFFF):x}::{random.randint(1, 99):x}",
        ),
        browser=random.choice(BROWSERS),
        phone=random.choice(PHONES),
        connections=tuple(_connection(random) for _ in range(random.randint(1, 3))),
    )


def _home(random: Random) -> str:
    return f"{random.choice(('192.0.2', '198.51.100'))}.{random.randint(30, 250)}"


def _connection(random: Random) -> Facts:
    provider = random.choice(tuple(PROVIDERS))
    file_format = random.choice(("qfx", "ofx", "csv"))
    return {
        "provider_name": provider,
        "provider_slug": PROVIDERS[provider],
        "connection_id": f"conn-{random.randrange(10_000, 99_999)}",
        "account_id": f"acct-{random.randrange(100_000, 999_999)}",
        "account_mask": f"{random.randrange(10_000):04d}",
        "account_type": random.choice(ACCOUNT_TYPES),
        "file_name": f"{PROVIDERS[provider]}-statement-{random.randint(1, 12):02d}.{file_format}",
        "file_format": file_format,
    }
