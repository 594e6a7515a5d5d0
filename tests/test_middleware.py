"""What every request brings along for events and log records, and that requests never mix."""

import asyncio
import logging
import threading
from ipaddress import ip_network

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import reverse
from django.utils.functional import SimpleLazyObject

from audit.context import RequestIdFilter, client_address, current_request
from audit.enums import AuditAction
from audit.middleware import request_context
from audit.models import AuditEvent
from audit.recorder import audit, caller
from auditportal import settings as portal_settings

# --- where a request comes from ----------------------------------------------------------------

PROXIES = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", "", "192.0.2.1"),
        ("192.0.2.1", "198.51.100.9", "192.0.2.1"),  # an untrusted peer may say what it likes
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.9", "198.51.100.9"),
        ("10.0.0.1", "203.0.113.5, 198.51.100.9", "198.51.100.9"),  # the left one is hearsay
        ("10.0.0.1", "198.51.100.9,10.2.2.2 , 10.1.1.1", "198.51.100.9"),
        ("10.0.0.1", "10.3.3.3, 10.1.1.1", "10.3.3.3"),
        ("10.0.0.1", "198.51.100.9, unknown, 10.1.1.1", "10.1.1.1"),
        ("10.0.0.1", "198.51.100.9,", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.9:443", "10.0.0.1"),
        ("10.0.0.1", "' OR 1=1 --", "10.0.0.1"),
        ("::ffff:10.0.0.1", "::ffff:198.51.100.9", "198.51.100.9"),
        ("2001:db8::1", "2001:DB9:0::1", "2001:db9::1"),
        ("fe80::1%eth0", "198.51.100.9", "fe80::1"),
        ("", "198.51.100.9", None),
        ("nonsense", "198.51.100.9", None),
    ],
)
def test_forwarded_addresses_are_believed_as_far_as_proxies_are_trusted(peer, forwarded, address):
    assert client_address(peer, forwarded, PROXIES) == address


def test_nobody_is_trusted_by_default(settings):
    assert settings.TRUSTED_PROXIES == ()
    assert client_address("127.0.0.1", "198.51.100.9", settings.TRUSTED_PROXIES) == "127.0.0.1"


def test_a_unix_socket_is_believed_only_where_the_setting_names_it():
    assert client_address("", "198.51.100.9", (*PROXIES, "unix")) == "198.51.100.9"
    assert client_address("", "", ("unix",)) is None
    assert client_address("", "bad", ("unix",)) is None
    assert client_address("nonsense", "198.51.100.9", ("unix",)) is None


@pytest.mark.parametrize("bad", ["10.0.0.1/8", "proxy.example.org", "10.0.0.0/33"])
def test_a_proxy_that_is_no_address_or_network_is_an_error_that_names_the_variable(
    bad, monkeypatch
):
    monkeypatch.setenv("TRUSTED_PROXIES", f"192.0.2.1,{bad}")
    with pytest.raises(ImproperlyConfigured, match="TRUSTED_PROXIES: "):
        portal_settings._proxies("TRUSTED_PROXIES")


def test_proxies_are_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("TRUSTED_PROXIES", "192.0.2.1,2001:db8::/32,unix")
    assert portal_settings._proxies("TRUSTED_PROXIES") == (
        ip_network("192.0.2.1/32"),
        ip_network("2001:db8::/32"),
        "unix",
    )


@pytest.mark.parametrize("bad", ["Berlin", "Europe", "../etc", "UTC+1"])
def test_a_zone_of_reviews_that_is_none_is_an_error_at_start(monkeypatch, bad):
    monkeypatch.setenv("AUDITPORTAL_REVIEW_ZONE", bad)
    with pytest.raises(ImproperlyConfigured, match=r"AUDITPORTAL_REVIEW_ZONE: .* is no time zone"):
        portal_settings._zone("AUDITPORTAL_REVIEW_ZONE")
    monkeypatch.setenv("AUDITPORTAL_REVIEW_ZONE", "Europe/Berlin")
    assert portal_settings._zone("AUDITPORTAL_REVIEW_ZONE") == "Europe/Berlin"


def test_an_event_has_the_address_that_a_trusted_proxy_gives(auditor, as_user, settings):
    settings.TRUSTED_PROXIES = PROXIES
    client = as_user(auditor)
    for peer in ("10.0.0.1", "192.0.2.1"):
        client.get(
            reverse("admin:audit_auditevent_changelist"),
            REMOTE_ADDR=peer,
            headers={"X-Forwarded-For": "198.51.100.9"},
        )
    searched = AuditEvent.objects.filter(action="portal_events_searched").order_by("id")
    assert [event.ip_address for event in searched] == ["198.51.100.9", "192.0.2.1"]


# --- request ids -------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["a", "01HX.abc_D-9", "x" * 128])
def test_a_sane_request_id_is_kept_and_echoed(given):
    answer = Client().get("/healthz", headers={"X-Request-Id": given})
    assert answer["X-Request-Id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\tb", "ä", "<script>", "a\n", "{}"])
def test_any_other_request_id_is_replaced(given):
    answers = [Client().get("/healthz", headers={"X-Request-Id": given}) for _ in "ab"]
    first, second = (answer["X-Request-Id"] for answer in answers)
    assert len(first) == 36
    assert given not in (first, second)
    assert first != second


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/no/such/page", "/admin/", "/api/v1/events/"])
def test_every_answer_has_the_id_also_one_that_refuses(path):
    answer = Client().get(path, headers={"X-Request-Id": "r-1"})
    assert answer.status_code >= 300
    assert answer["X-Request-Id"] == "r-1"


def test_events_of_a_request_have_its_id(auditor, as_user):
    headers = {"X-Request-Id": "r-7"}
    as_user(auditor).get(reverse("admin:audit_auditevent_changelist"), headers=headers)
    assert AuditEvent.objects.get(action="portal_events_searched").request_id == "r-7"


def a_record():
    return logging.LogRecord("x", logging.INFO, __file__, 1, "said", None, None)


def test_log_records_have_the_id_of_the_request(rf):
    inside, outside = a_record(), a_record()

    def view(request):
        RequestIdFilter().filter(inside)
        return HttpResponse()

    request_context(view)(rf.get("/", headers={"X-Request-Id": "r-1"}))
    assert RequestIdFilter().filter(outside) is True
    assert (inside.request_id, outside.request_id) == ("r-1", "-")


def test_djangos_own_line_about_a_request_has_its_id(caplog):
    caplog.handler.addFilter(RequestIdFilter())
    Client().get("/no/such/page", headers={"X-Request-Id": "r-404"})
    [line] = [record for record in caplog.records if record.name == "django.request"]
    assert line.request_id == "r-404"


# --- who is asking -----------------------------------------------------------------------------


def through(request, view):
    """What `view` returns inside of the middleware."""
    found = []

    def get_response(request):
        found.append(view(request))
        return HttpResponse()

    request_context(get_response)(request)
    return found[0]


def test_outside_of_a_request_nobody_asks(rf):
    assert caller() == {}
    assert through(rf.get("/"), lambda request: current_request() is request)
    assert current_request() is None


def test_a_request_is_over_also_when_its_view_raises(rf):
    def view(request):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        through(rf.get("/"), view)
    assert current_request() is None


def test_the_user_is_read_when_it_is_recorded(rf):
    def view(request):
        request.user = AnonymousUser()
        before = caller()
        request.user = User(username="ada")
        return before, caller()

    before, after = through(rf.get("/", REMOTE_ADDR="192.0.2.7"), view)
    assert "user_id" not in before
    assert (after["user_id"], after["actor_type"]) == ("ada", "user")
    assert after["ip_address"] == "192.0.2.7"


def test_an_application_asks_as_its_key(app):
    app.get("/api/v1/events/")
    event = AuditEvent.objects.get(action="portal_events_searched")
    assert event.user_id.startswith("api-key:")
    assert (event.actor_type, event.ip_address) == ("service", "127.0.0.1")


# --- requests never mix ------------------------------------------------------------------------

AT_ONCE = 12


def numbered(rf, number):
    return rf.get(
        "/",
        REMOTE_ADDR=f"192.0.2.{number}",
        headers={"X-Request-Id": f"r-{number}", "User-Agent": f"agent {number}"},
    )


def events_by_user():
    found = AuditEvent.objects.filter(action="data_viewed")
    return {
        event.user_id: (event.ip_address, event.request_id, event.user_agent) for event in found
    }


EACH_ITS_OWN = {
    f"u-{number}": (f"192.0.2.{number}", f"r-{number}", f"agent {number}")
    for number in range(AT_ONCE)
}


def test_requests_in_threads_keep_to_themselves(own_database, rf):
    together = threading.Barrier(AT_ONCE, timeout=30)

    def view(request):
        request.user = User(username=f"u-{request.request_id.removeprefix('r-')}")
        together.wait()
        audit.record_sync(action=AuditAction.DATA_VIEWED)
        together.wait()
        return HttpResponse()

    def run(number):
        try:
            request_context(view)(numbered(rf, number))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=[number]) for number in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert events_by_user() == EACH_ITS_OWN


def test_requests_in_one_event_loop_keep_to_themselves(own_database, rf):
    waiting = []

    async def view(request):
        request.user = User(username=f"u-{request.request_id.removeprefix('r-')}")
        waiting.append(request)
        while len(waiting) < AT_ONCE:
            await asyncio.sleep(0)
        await audit.record(action=AuditAction.DATA_VIEWED)
        return HttpResponse()

    async def all_at_once():
        return await asyncio.gather(
            *(request_context(view)(numbered(rf, number)) for number in range(AT_ONCE))
        )

    answers = asyncio.run(all_at_once())
    assert [answer["X-Request-Id"] for answer in answers] == [f"r-{n}" for n in range(AT_ONCE)]
    assert events_by_user() == EACH_ITS_OWN
    assert current_request() is None


def test_a_sync_view_below_async_middleware_knows_its_request(rf):
    async def view(request):
        return HttpResponse(await sync_to_async(lambda: caller()["request_id"])())

    async def ask():
        return await request_context(view)(numbered(rf, 3))

    assert asyncio.run(ask()).content == b"r-3"


@pytest.mark.django_db
def test_the_whole_portal_answers_asynchronously_too():
    async def ask_all():
        client = AsyncClient()
        return await asyncio.gather(
            *(client.get("/healthz", headers={"X-Request-Id": f"r-{n}"}) for n in range(AT_ONCE))
        )

    answers = asyncio.run(ask_all())
    assert [answer["X-Request-Id"] for answer in answers] == [f"r-{n}" for n in range(AT_ONCE)]


def test_the_user_of_a_session_is_found_from_a_coroutine(own_database, rf):
    """`request.user` asks the database, which a coroutine may not; the recorder's thread does."""
    User.objects.create_user("ada")

    async def view(request):
        request.user = SimpleLazyObject(lambda: User.objects.get(username="ada"))
        await audit.record(action=AuditAction.DATA_VIEWED)
        return HttpResponse()

    async def ask():
        await request_context(view)(rf.get("/"))

    asyncio.run(ask())
    assert AuditEvent.objects.get().user_id == "ada"
