"""Free text finds what is sealed, moments later; what is to be forgotten does not stay in it."""

from threading import Event

import pytest
from django.contrib.postgres.search import SearchVector
from django.db import connection
from django.db.models import Value
from django.http import QueryDict

from audit import following, searching, tasks
from audit.filters import AuditEventFilter
from audit.ingest import ingest
from audit.models import SearchText
from tests.conftest import App, a_sign_in, soon


def found(text):
    query = QueryDict(mutable=True)
    query["q"] = text
    return AuditEventFilter(query).events()


def follow():
    return following.follow(searching.FOLLOWER, searching.follow)


@pytest.mark.usefixtures("own_database")
def test_words_are_found_once_the_follower_has_seen_them():
    ingest([a_sign_in(user_id="ada.lovelace"), a_sign_in()], source="payments")
    tasks.seal_pending()
    assert not found("ada.lovelace")
    assert follow() == 2
    assert [event.user_id for event in found("ada.lovelace")] == ["ada.lovelace"]
    assert len(found("ada@example.com")) == 2
    assert follow() == 0


@pytest.mark.usefixtures("own_database")
def test_the_worker_makes_events_searchable_within_ten_seconds():
    stop = Event()
    threads = tasks.start(stop)
    try:
        ingest([a_sign_in(user_id="grace")], source="payments")
        assert soon(lambda: found("grace").exists(), seconds=10)
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)


@pytest.mark.usefixtures("own_database")
def test_what_was_forgotten_is_not_found_once_its_words_are_written_anew():
    [receipt] = ingest([a_sign_in(user_id="edith")], source="payments")
    searching.write([receipt.id])
    # As if the event had said more.
    SearchText.objects.using("worker").update(
        words=SearchVector(Value("edith swan"), config="simple")
    )
    assert found("swan")
    searching.write([receipt.id])
    assert not found("swan")
    assert found("edith")


@pytest.mark.usefixtures("own_database")
def test_the_api_finds_words_in_identifiers_and_context():
    said = {"email": "ada@example.com", "on": ["Sunday", 7]}
    receipts = ingest(
        [a_sign_in(user_id="Ada Lovelace", context=said), a_sign_in(user_id="eve", context={})],
        source="payments",
    )
    searching.write([receipt.id for receipt in receipts])
    reader = App("reader", ["read"])
    for words in ("ada", "ADA lovelace", "ada@example.com", "sunday", "7"):
        results = reader.get("/api/v1/events/", q=words, source="payments").json()["results"]
        assert [event["user_id"] for event in results] == ["Ada Lovelace"], words


@pytest.mark.usefixtures("own_database")
def test_words_lie_in_the_months_of_their_events():
    [receipt] = ingest([a_sign_in()], source="payments")
    searching.write([receipt.id])
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT event.tableoid::regclass::text, words.tableoid::regclass::text"
            " FROM audit_auditevent event JOIN audit_searchtext words USING (id)"
        )
        event, words = cursor.fetchone()
    assert words == event.replace("auditevent", "searchtext")
