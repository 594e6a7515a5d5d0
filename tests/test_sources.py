"""How the sources are doing: who is silent, refused or misses numbers; page and API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from audit import refusals, sources
from audit.ingest import ingest, now
from audit.keys import issue_key, source_named
from audit.models import Refusal
from audit.sources import Health

pytestmark = pytest.mark.django_db(databases=["default", "evidence", "owner"])

AT = now()
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def write(at: datetime, *numbers: int | None, source: str = "shop", **fields: Any) -> None:
    """One request of events with these numbers, which arrives at `at`."""
    rows = [{"action": "user_logout", "source_seq": number} | fields for number in numbers]
    ingest(rows, source=source, clock=lambda: at)


def write_every(pause: timedelta, times: int, until: datetime, source: str = "shop") -> None:
    for number in range(times):
        write(until - number * pause, None, source=source)


@pytest.fixture(autouse=True)
def shop() -> None:
    source_named("shop")


def health() -> Health:
    (found,) = [each for each in sources.health(AT) if each.name == "shop"]
    return found


# --- when it wrote -----------------------------------------------------------------------------


def test_a_source_that_never_wrote_says_so() -> None:
    found = health()
    assert (found.states, found.last_at, found.events, found.missing) == (["new"], None, 0, 0)


def test_a_source_that_writes_is_well() -> None:
    write_every(MINUTE, 10, AT - MINUTE)
    found = health()
    assert found.states == ["writing"]
    assert (found.last_at, found.pause, found.events) == (AT - MINUTE, MINUTE, 10)


@pytest.mark.parametrize(
    ("pause", "silence", "state"),
    [
        (MINUTE, 59 * MINUTE, "writing"),
        (MINUTE, 61 * MINUTE, "silent"),
        (HOUR, 9 * HOUR, "writing"),
        (HOUR, 11 * HOUR, "silent"),
        (24 * HOUR, 6 * 24 * HOUR, "writing"),
        (HOUR, 8 * 24 * HOUR, "away"),
    ],
)
def test_silence_is_measured_by_the_usual_pause(
    pause: timedelta, silence: timedelta, state: str
) -> None:
    write_every(pause, 5, AT - silence)
    assert health().states == [state]


def test_of_two_arrivals_no_pause_is_usual() -> None:
    write_every(MINUTE, 2, AT - 5 * HOUR)
    assert health().states == ["writing"]


def test_a_batch_is_one_arrival() -> None:
    for hours in (30, 20, 10):
        write(AT - hours * HOUR, *[None] * 50)
    assert health().pause == 10 * HOUR


def test_large_batches_have_a_rhythm_too() -> None:
    for hours in (12, 11, 10):
        write(AT - hours * HOUR, *[None] * 1_000)
    assert (health().pause, health().states) == (HOUR, ["writing"])


def test_an_application_s_clock_that_is_wrong_does_not_hide_its_silence() -> None:
    write_every(MINUTE, 5, AT - 3 * HOUR)
    write(AT - 2 * HOUR, None, occurred_at="2099-01-01T00:00:00Z")
    assert health().last_at == AT - 2 * HOUR
    assert health().states == ["silent"]


def test_events_of_a_day_are_counted_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    write(AT - 25 * HOUR, None)
    write(AT - HOUR, *[None] * 20)
    assert (health().events, health().events_are_bounded) == (20, False)
    monkeypatch.setattr(sources, "MOST_COUNTED", 10)
    assert (health().events, health().events_are_bounded) == (11, True)


# --- numbers -----------------------------------------------------------------------------------


@pytest.fixture
def old() -> datetime:
    """A moment whose events everybody should have by now."""
    return AT - 10 * MINUTE


@pytest.mark.parametrize(
    ("numbers", "gaps"),
    [
        ([1, 2, 3], []),
        ([7, 8, 9], []),
        ([3, 1, 2, 5, 4], []),
        ([1, 2, 2, 3], []),
        ([1, 2, 4], [(3, 3)]),
        ([5, 9, 10, 13], [(11, 12), (6, 8)]),
        ([5, None, 6], []),
        ([None, None], []),
        ([98, 99, 100, 1, 2], []),
        ([98, 99, 100, 0, 1, 2], []),
        ([98, 100, 1, 3], [(2, 2), (99, 99)]),
    ],
)
def test_numbers_that_are_missing_are_named(
    numbers: list[int | None], gaps: list[tuple[int, int]], old: datetime
) -> None:
    for position, number in enumerate(numbers):
        write(old - (len(numbers) - position) * timedelta(seconds=1), number)
    found = health()
    assert found.gaps == gaps
    assert found.missing == sum(last - first + 1 for first, last in gaps)
    assert ("gaps" in found.states) == bool(gaps)


def test_a_number_may_come_five_minutes_later() -> None:
    write(AT - 4 * MINUTE, 1, 3)
    assert health().missing == 0
    write(AT - 6 * MINUTE, 6)
    assert health().missing == 2


def test_numbers_of_another_source_fill_nothing(old: datetime) -> None:
    write(old, 1, 3)
    write(old, 2, source="crm")
    assert health().gaps == [(2, 2)]


def test_beyond_what_is_looked_at_nothing_is_called_missing(
    monkeypatch: pytest.MonkeyPatch, old: datetime
) -> None:
    monkeypatch.setattr(sources, "NUMBERED", 10)
    # 14 lies beyond the last ten, 17 within the older half of them, 27 within the newer.
    for position, number in enumerate([14, 10, 11, 12, 13, 15, 16, 18, 19, 20, 26, 28, 29]):
        write(old - (13 - position) * timedelta(seconds=1), number)
    assert health().gaps == [(27, 27), (21, 25)]


def test_only_the_newest_gaps_are_named_and_all_are_counted(old: datetime) -> None:
    for number in range(0, 40, 2):
        write(old - (40 - number) * timedelta(seconds=1), number + 10)
    found = health()
    assert found.missing == 19
    assert found.gaps[0] == (47, 47)
    assert len(found.gaps) == sources.MOST_GAPS


# --- refusals ----------------------------------------------------------------------------------


def refuse(at: datetime, count: int, code: str = "wrong_type", source: str = "shop") -> None:
    hour = at.replace(minute=0, second=0, microsecond=0)
    Refusal.objects.create(
        hour=hour, source=source, code=code, pointer="/user_id", status=400, first_at=at,
        last_at=at, count=count, sample={},
    )  # fmt: skip


def test_refusals_of_a_day_are_summed_by_reason() -> None:
    refuse(AT - 25 * HOUR, 1000)
    refuse(AT - 20 * HOUR, 5)
    refuse(AT - 2 * HOUR, 5)
    for count, code in ((1, "too_long"), (20, "invalid_json"), (3, "too_deep")):
        refuse(AT - HOUR, count, code)
    refuse(AT - HOUR, 7, source="crm")
    found = health()
    assert found.refused == 34
    reasons = [(reason.code, reason.count) for reason in found.reasons]
    assert reasons == [("invalid_json", 20), ("wrong_type", 10), ("too_deep", 3)]


def test_who_is_refused_after_its_last_event_keeps_failing() -> None:
    write_every(MINUTE, 5, AT - 30 * MINUTE)
    refuse(AT - 40 * MINUTE, 1)
    assert health().states == ["refused"]
    refuse(AT - 10 * MINUTE, 1, "too_long")
    assert health().states == ["failing"]


def test_all_that_is_true_of_a_source_is_told_worst_first() -> None:
    for minutes, number in ((200, 1), (190, 2), (180, 4)):
        write(AT - minutes * MINUTE, number)
    refuse(AT - HOUR, 1)
    assert health().states == ["failing", "silent", "gaps"]
    assert set(health().states) <= sources.STATES.keys()


# --- the API -----------------------------------------------------------------------------------


def client_with(*scopes: str) -> Client:
    _, text = issue_key(source="monitor", name="test", scopes=list(scopes))
    return Client(headers={"Authorization": f"Api-Key {text}"})


def test_the_api_tells_the_same_figures() -> None:
    begin = now()
    for minutes, number in ((30, 1), (20, 2), (10, 5)):
        write(begin - minutes * MINUTE, number)
    refusals.keep(source="shop", key="k", status=400, code="too_deep", pointer="/context/a/b")
    Client(headers={"Authorization": "Api-Key a.b"}).get("/api/v1/sources/")
    answer = client_with("read").get("/api/v1/sources/").json()
    assert [each["name"] for each in answer["results"]] == ["monitor", "shop"]
    shop = answer["results"][1]
    assert shop.pop("last_event_at").endswith("Z")
    assert shop.pop("last_refused_at").endswith("Z")
    assert shop == {
        "name": "shop",
        "states": ["failing", "gaps"],
        "usual_pause_seconds": 600.0,
        "events_24h": 3,
        "refused_24h": 1,
        "reasons": [
            {
                "code": "too_deep",
                "pointer": "/context/…",
                "reason": "nested too deeply",
                "count": 1,
            }
        ],
        "missing": 2,
        "gaps": [{"first": 3, "last": 4}],
    }
    assert answer["unknown_senders"]["refused_24h"] == 1
    assert answer["results"][0]["usual_pause_seconds"] is None


def test_the_api_wants_a_key_that_may_read() -> None:
    assert Client().get("/api/v1/sources/").status_code == 401
    assert client_with("write").get("/api/v1/sources/").status_code == 403
    assert client_with("read").get("/api/v1/sources/?x=1").status_code == 400


# --- the pages ---------------------------------------------------------------------------------

PAGES = ["/admin/sources/", "/admin/refusals/"]


@pytest.fixture
def busy() -> Iterator[None]:
    begin = now()
    write_every(MINUTE, 5, begin - 3 * HOUR)
    write(begin - 2 * HOUR, 1, 2, 5)
    refusals.keep(
        source="shop", key="abcdefgh", status=400, code="unknown_field", pointer="/<b>x",
        row={"action": "user_logout", "nick": "ada", "context": {"a": 1}},
    )  # fmt: skip
    refusals.keep(source="", key="", status=401, code="no_key")
    return


def test_the_page_tells_states_in_words_with_their_figures(
    busy: None, as_user: Callable[[User], Client], manager: User
) -> None:
    page = as_user(manager).get("/admin/sources/").content.decode()
    for label in ("keeps failing", "silent", "numbers missing"):
        assert f">{label}</span>" in page
    assert "1 × a field that events do not have" in page
    assert "3 to 4" in page
    assert "usually every 1 min" in page
    assert ">1 request</a> of the last 24 hours came without a valid key" in page


def test_refusals_are_listed_and_filtered_by_source(
    busy: None, as_user: Callable[[User], Client], manager: User
) -> None:
    client = as_user(manager)
    everything = client.get("/admin/refusals/").content.decode()
    assert "A field that events do not have" in everything
    assert "No API key" in everything
    assert "action, nick, context; context: a" in everything
    of_shop = client.get("/admin/refusals/?source=shop").content.decode()
    assert "unknown_field" in of_shop
    assert "no_key" not in of_shop
    of_nobody = client.get("/admin/refusals/?source=").content.decode()
    assert "no_key" in of_nobody
    assert "unknown_field" not in of_nobody
    for odd in ("nobody", "\0", "%", "é" * 500):
        assert client.get("/admin/refusals/", {"source": odd}).status_code == 404


@pytest.mark.parametrize("address", PAGES)
def test_the_pages_want_somebody_who_may_see_sources(
    address: str, as_user: Callable[[User], Client], reviewer: User, outsider: User
) -> None:
    assert Client().get(address).status_code == 302
    for user in (reviewer, outsider):
        assert as_user(user).get(address).status_code == 403


@pytest.mark.parametrize("address", PAGES)
def test_the_pages_change_nothing(
    address: str, as_user: Callable[[User], Client], manager: User
) -> None:
    before = Refusal.objects.count()
    as_user(manager).post(address, {"action": "delete"})
    assert Refusal.objects.count() == before


def test_the_pages_are_linked(as_user: Callable[[User], Client], manager: User) -> None:
    client, pk = as_user(manager), source_named("shop").pk
    for address in ("/admin/", "/admin/audit/source/", f"/admin/audit/source/{pk}/change/"):
        assert "/admin/sources/" in client.get(address).content.decode()


def test_the_page_costs_the_same_few_queries_for_each_source(
    django_assert_max_num_queries: Any,
) -> None:
    write(now() - HOUR, *range(2, 100))
    with django_assert_max_num_queries(5):
        sources.health(datetime.now(UTC))
