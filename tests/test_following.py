"""A follower sees every sealed event exactly once, in the log's order, whatever happens."""

from threading import Event, Thread

import pytest
from django.db import connections

from audit import following, tasks
from audit.ingest import ingest
from audit.models import AuditEvent, Follower, Leaf
from tests.conftest import a_sign_in


def sealed(count):
    """Store and seal so many events."""
    ingest([a_sign_in() for _ in range(count)], source="payments")
    tasks.seal_pending()


class Watcher:
    """Work that remembers what it saw, and fails where it is told to."""

    def __init__(self):
        self.seen, self.fails = [], False

    def __call__(self, leaves):
        self.seen += leaves
        if self.fails:
            raise ValueError("told to fail")

    def follow(self, most=3):
        return following.follow("watcher", self, most=most)


@pytest.fixture
def watcher(own_database):
    return Watcher()


def test_it_sees_every_leaf_once_in_order_some_at_a_time(watcher):
    sealed(7)
    assert [watcher.follow() for _ in range(4)] == [3, 3, 1, 0]
    assert watcher.seen == list(range(7))
    sealed(2)
    assert watcher.follow() == 2
    assert watcher.seen == list(range(9))


def test_what_is_stored_but_not_sealed_is_not_seen_yet(watcher):
    assert watcher.follow() == 0
    sealed(1)
    ingest([a_sign_in()], source="payments")
    assert watcher.follow() == 1
    assert watcher.follow() == 0


def test_what_it_failed_at_it_sees_again(watcher):
    sealed(4)
    watcher.fails = True
    with pytest.raises(ValueError, match="told to fail"):
        watcher.follow()
    assert following.behind("watcher") == 4
    watcher.fails = False
    assert watcher.follow() == 3
    assert watcher.seen == [0, 1, 2, 0, 1, 2]


def test_each_follower_has_a_place_of_its_own(watcher):
    sealed(2)
    other = Watcher()
    watcher.follow()
    assert following.follow("other", other) == 2
    assert other.seen == [0, 1]


def test_how_far_it_is_behind_can_be_told(watcher):
    assert following.behind("watcher") == 0
    sealed(5)
    assert following.behind("watcher") == 5
    watcher.follow()
    assert following.behind("watcher") == 2


def test_the_events_of_leaves_come_in_the_logs_order(watcher):
    sealed(6)
    found = [str(event.id) for event in following.events(range(1, 4))]
    wanted = Leaf.objects.filter(index__in=[1, 2, 3]).order_by("index")
    assert found == [str(leaf.event_id) for leaf in wanted]
    assert len(following.events(range(99))) == AuditEvent.objects.count()


@pytest.mark.usefixtures("own_database")
def test_a_second_worker_neither_waits_nor_sees_what_the_first_is_seeing():
    sealed(2)
    seeing, enough = Event(), Event()
    first, second = [], Watcher()

    def slowly(leaves):
        first.extend(leaves)
        seeing.set()
        enough.wait(10)

    def follow():
        following.follow("watcher", slowly)
        connections.close_all()

    thread = Thread(target=follow)
    thread.start()
    assert seeing.wait(10)
    assert second.follow() == 0
    enough.set()
    thread.join()
    assert second.follow() == 0
    assert (first, second.seen) == ([0, 1], [])
    assert Follower.objects.get().position == 2
