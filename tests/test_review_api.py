"""Alerts and exceptions in the API: read by keys, decided by nobody."""

import pytest
from django.test import Client

from audit.models import Alert
from audit.review import alerts
from tests.conftest import App
from tests.test_review import opened, raised

pytestmark = pytest.mark.usefixtures("own_database")

ALERTS, EXCEPTIONS = "/api/v1/alerts/", "/api/v1/exceptions/"


@pytest.fixture
def reader(own_database):
    return App("payments", ["read"])


def test_alerts_are_read_under_filters_page_by_page(reader, reviewer):
    open_, decided = raised(), raised(severity="high")
    alerts.decide_benign(decided.pk, "x", by="reviewer")
    [shown] = reader.get(ALERTS, status="benign").json()["results"]
    assert (shown["id"], shown["severity"], shown["count"]) == (str(decided.pk), "high", 1)
    assert shown["grown"] == 0
    assert "key" not in shown
    first = reader.get(ALERTS, page_size=1).json()
    second = reader.client.get(first["next"]).json()
    ids = {page["results"][0]["id"] for page in (first, second)}
    assert ids == {str(open_.pk), str(decided.pk)}
    assert second["next"] is None


def test_exceptions_are_read_under_filters_page_by_page(reader, reviewer):
    numbers = [opened(alerts=[raised().pk]).pk for _ in range(3)]
    first = reader.get(EXCEPTIONS, page_size=2).json()
    second = reader.client.get(first["next"]).json()
    read = [row["number"] for page in (first, second) for row in page["results"]]
    assert read == numbers[::-1]
    assert second["next"] is None
    assert reader.client.get(second["previous"]).json()["results"] == first["results"]
    assert reader.get(EXCEPTIONS, state="closed").json()["results"] == []
    assert reader.get(EXCEPTIONS, owner="reviewer").json()["results"] != []


@pytest.mark.parametrize("address", [ALERTS, EXCEPTIONS])
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_only_people_decide(reader, address, method):
    alert = raised()
    answer = getattr(reader.client, method)(address, {}, content_type="application/json")
    assert answer.status_code == 405
    assert answer["Content-Type"] == "application/problem+json"
    assert "by people, in the portal" in answer.json()["detail"]
    assert Alert.objects.get(pk=alert.pk).status == "open"


@pytest.mark.parametrize(
    ("address", "query"),
    [(ALERTS, "status=x"), (ALERTS, "rule=x"), (ALERTS, "cursor=x"), (ALERTS, "foo=1"),
     (EXCEPTIONS, "state=x"), (EXCEPTIONS, "cursor=-1"), (EXCEPTIONS, "page_size=0")],
)  # fmt: skip
def test_a_bad_parameter_is_named(reader, address, query):
    answer = reader.client.get(f"{address}?{query}")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["parameter"] == query.split("=")[0]


@pytest.mark.parametrize("address", [ALERTS, EXCEPTIONS])
def test_it_needs_a_key_that_may_read(own_database, address):
    assert Client().get(address).status_code == 401
    assert App("crm", ["write"]).get(address).status_code == 403
