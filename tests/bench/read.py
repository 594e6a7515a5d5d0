"""Server time of every page that reads events, against Django's stock admin on the same table.

make bench-read
python -m tests.bench.read --events 1000000 --data /var/tmp/auditportal-read-1m
python -m tests.bench.read --events 10000000 --data … --compare /var/tmp/auditportal-read-1m

Requests go through Django's test client: all of the portal's work, without a network. The data
stay in the directory and are not loaded again; figures are written beside them, as read.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple
from urllib.parse import urlencode

from tests.bench.site import set_up

RUNS = 100
STOCK_RUNS, STOCK_SECONDS = 10, 30
"""How often a stock page is asked for, and for how long at most: some take most of a minute."""

MOST_RECORDED = 10_000
"""How many events the requests record at most: more are the data themselves, just loaded."""

LIST = "/admin/audit/auditevent/"
STOCK = "/stock/audit/auditevent/"


class Page(NamedTuple):
    """What is measured: a name, how it is had, and the stock page that shows the same, if any."""

    name: str
    get: Callable[[], Any]
    stock: dict[str, Any] | None = None


@dataclass
class Figures:
    """Milliseconds: of our page, and of the stock one where there is one."""

    median: float
    p95: float
    queries: int
    stock: float | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--data", type=Path, default=Path("/var/tmp/auditportal-read"))
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--compare", type=Path, help="the directory of a run with fewer events")
    parser.add_argument("--no-stock", action="store_true", help="only our own pages")
    options = parser.parse_args()
    _prepare(options.data, options.events)
    found = dict(_measured(options.runs, with_stock=not options.no_stock))
    (options.data / "read.json").write_text(json.dumps({k: asdict(v) for k, v in found.items()}))
    before = json.loads((options.compare / "read.json").read_text()) if options.compare else {}
    _print(found, before)


# --- the data ------------------------------------------------------------------------------------


def _prepare(folder: Path, count: int) -> None:
    """A migrated portal with so many events, sealed, searchable and known to the planner."""
    set_up(folder)
    from django.conf import settings
    from django.core.management import call_command

    settings.ROOT_URLCONF = "tests.bench.stock"
    began = time.perf_counter()
    call_command("demo", events=count, no_serve=True)
    _follow()
    call_command("collectstatic", verbosity=0, interactive=False)
    print(f"ready after {time.perf_counter() - began:,.0f} s", flush=True)


def _follow() -> None:
    """What the worker does while the demo is served: seal, and follow the log."""
    from django.db import connections

    from audit import tasks
    from audit.following import follow

    tasks.seal_pending()
    done = 0
    for name, work in tasks.FOLLOWERS.items():
        while count := follow(name, work):
            done += count
    if done > MOST_RECORDED:
        with connections["owner"].cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")


# --- the pages -----------------------------------------------------------------------------------


def _pages() -> list[Page]:
    from django.contrib.auth.models import User
    from django.http import QueryDict
    from django.test import Client

    from audit import counts, paging
    from audit.filters import AuditEventFilter
    from audit.keys import issue_key
    from audit.models import AuditEvent
    from tests.bench import stock

    everything = AuditEventFilter(QueryDict("")).events()
    last = AuditEvent.objects.filter(source="web-app").latest("occurred_at").occurred_at
    week = {"occurred_after": (last - timedelta(days=7)).strftime("%Y-%m-%d")}
    stock_week = {"occurred_at__gte": f"{week['occurred_after']}T00:00:00Z"}
    deep = paging.page(everything, 1_000 * stock.PAGE_SIZE).older
    user, rare = _somebody()
    staff = Client(headers={"host": "localhost"})
    staff.force_login(User.objects.get(username="demo"))
    _, key = issue_key(source="bench", name="bench", scopes=["read"])
    program = Client(headers={"host": "localhost", "authorization": f"Api-Key {key}"})

    def listed(**query: str) -> Callable[[], Any]:
        return lambda: staff.get(LIST, query)

    failed = {"category": "authentication", "outcome": "failure"}
    total = AuditEventFilter(QueryDict("category=provider"))
    by_day = {"group_by": "category,day"}
    return [
        Page("default list", listed(), {}),
        Page("category", listed(category="provider"), {"category__exact": "provider"}),
        Page(
            "category, failure, 7 days",
            listed(**failed, **week),
            {f"{name}__exact": value for name, value in failed.items()} | stock_week,
        ),
        Page(
            "action, 7 days",
            listed(action="user_login_failed", **week),
            {"action__exact": "user_login_failed"} | stock_week,
        ),
        Page("user", listed(user_id=user), {"user_id__exact": user}),
        Page("IP network", listed(ip="203.0.113.0/24"), {"q": "203.0.113."}),
        Page(
            "context key = value",
            listed(context="config_key:password.min_length"),
            {"q": "password.min_length"},
        ),
        Page("text: rare e-mail", listed(q=rare), {"q": rare}),
        Page("text: common word", listed(q="windows"), {"q": "windows"}),
        Page("page 1,001", listed(cursor=deep or ""), {"p": "1001"}),
        Page("category × day", lambda: program.get("/api/v1/summary/", by_day)),
        Page("grouped by category", listed(group_by="category")),
        Page("overview, 90 days", lambda: staff.get("/admin/", {"period": "-90d"})),
        Page("story of a user", lambda: staff.get("/admin/story/", {"user_id": user})),
        Page("exact total", lambda: counts.exact(total)),
    ]


def _somebody() -> tuple[str, str]:
    """A user as others are, and the e-mail address of one who hardly ever comes."""
    from audit import seeding
    from audit.models import AuditEvent
    from audit.samples import cast_of

    size = AuditEvent.objects.order_by().values("id")[: 10**9].count()
    users = cast_of(seeding.SEED, seeding.people(size)).users
    return users[len(users) // 2].user_id, users[-1].email


# --- measuring -----------------------------------------------------------------------------------


def _measured(runs: int, *, with_stock: bool) -> Iterable[tuple[str, Figures]]:
    for page in _pages():
        _follow()  # what was asked for was recorded, and waits
        if not _works(page):
            print(f"{page.name}: there is no such page", flush=True)
            continue
        queries = _queries(page.get)
        times = [_timed(page.get) for _ in range(runs + 3)][3:]
        figures = Figures(median(times), quantiles(times, n=20)[-1], queries)
        if with_stock and page.stock is not None:
            figures.stock = _stock(page.stock)
        print(f"{page.name}: {figures.median:.1f} ms, stock {figures.stock}", flush=True)
        yield page.name, figures


def _works(page: Page) -> bool:
    return getattr(page.get(), "status_code", 200) == 200


def _timed(get: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    get()
    return 1_000 * (time.perf_counter() - begin)


def _queries(get: Callable[[], Any]) -> int:
    """How many statements a page sends, with those of its record; BEGIN and COMMIT are none."""
    from contextlib import ExitStack

    from django.db import connections
    from django.test.utils import CaptureQueriesContext

    with ExitStack() as stack:
        captured = [
            stack.enter_context(CaptureQueriesContext(connections[alias]))
            for alias in ("default", "evidence")
        ]
        get()
    statements = [query["sql"] for one in captured for query in one.captured_queries]
    return sum(statement not in ("BEGIN", "COMMIT") for statement in statements)


def _stock(query: dict[str, Any]) -> float:
    """The median of a stock page, in Django's own templates."""
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.test import Client, override_settings

    from audit.patience import patient

    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.get(username="demo"))
    address, times = f"{STOCK}?{urlencode(query)}", list[float]()
    until = time.perf_counter() + STOCK_SECONDS
    its_own = override_settings(TEMPLATES=[settings.TEMPLATES[0] | {"DIRS": []}])
    # It takes longer than the portal's own pages may.
    with its_own, patient(None):
        while len(times) < STOCK_RUNS and (not times or time.perf_counter() < until):
            begin = time.perf_counter()
            answer = client.get(address)
            assert answer.status_code == 200, f"{address} answered {answer.status_code}"
            times.append(1_000 * (time.perf_counter() - begin))
    return median(times)


def _print(found: dict[str, Figures], before: dict[str, dict[str, Any]]) -> None:
    print(f"{'':28}{'median':>9}{'p95':>9}{'queries':>9}{'stock':>11}{'faster':>9}{'growth':>9}")
    for name, one in found.items():
        stock = f"{one.stock:,.0f}" if one.stock else "–"
        faster = f"{one.stock / one.median:,.0f} ×" if one.stock else "–"
        growth = f"{one.p95 / before[name]['p95']:.2f} ×" if name in before else "–"
        print(
            f"{name:28}{one.median:9.1f}{one.p95:9.1f}{one.queries:9}{stock:>11}{faster:>9}"
            f"{growth:>9}"
        )


if __name__ == "__main__":
    main()
