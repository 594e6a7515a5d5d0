"""`AuditClient`: what is recorded reaches the portal once, whatever happens on the way."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pytest_django.live_server_helper import LiveServer

from audit import client as module
from audit.client import AsyncAuditClient, AuditClient, SpoolFull
from audit.enums import ACTIONS, AuditAction
from audit.keys import issue_key
from audit.models import ApiKey, AuditEvent
from audit.operations import course, failure_context
from tests.conftest import a_sign_in

LOGIN = a_sign_in()
Answer = Callable[["Handler", list[Any]], None]


# --- a portal that answers what a test wants ---------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Portal

    def do_GET(self) -> None:
        self.server.gets += 1
        self.answer(200, {"results": [_described(action) for action in ACTIONS.values()]})

    def do_POST(self) -> None:
        events = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.keys.append(self.headers["Authorization"])
        self.server.batches.append(events)
        self.server.times.append(time.monotonic())
        script = self.server.script
        (script.pop(0) if script else accept)(self, events)

    def answer(self, status: int, body: Any, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        pass


class Portal(ThreadingHTTPServer):
    """Takes all events; before that it gives the answers of the `script`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.script: list[Answer] = []
        self.batches: list[list[Any]] = []
        self.times: list[float] = []
        self.keys: list[str] = []
        self.stored: list[Any] = []
        self.gets = 0

    def handle_error(self, *args: Any) -> None:
        pass  # clients that go away in the middle are what these tests are about


def accept(handler: Handler, events: list[Any]) -> None:
    handler.server.stored.extend(events)
    results = [{"id": event["id"]} for event in events]
    handler.answer(201, {"count": len(results), "results": results})


def refuse(*indexes: int, status: int = 400, kind: str = "rejected-events") -> Answer:
    """A refusal of a whole batch; without indexes it does not tell whose fault it is."""
    errors = [{"index": index, "code": "bad", "pointer": "/x", "detail": "no"} for index in indexes]
    body = {"type": f"urn:auditportal:problem:{kind}", "detail": "refused", "errors": errors}
    return lambda handler, _: handler.answer(status, body)


def reply(status: int, body: Any = b"<h1>nginx</h1>", **headers: str) -> Answer:
    return lambda handler, _: handler.answer(status, body, **headers)


def drop(handler: Handler, events: list[Any]) -> None:
    """Stores the events, and the answer is lost."""
    handler.server.stored.extend(events)
    handler.close_connection = True


def refuse_bad(handler: Handler, events: list[Any]) -> None:
    """Refuses whatever holds an event of the user `bad`, without saying which."""
    bad = any(event.get("user_id") == "bad" for event in events)
    (refuse() if bad else accept)(handler, events)


def _described(action: Any) -> dict[str, Any]:
    return {
        "value": action.value, "operation": action.operation, "outcome": action.outcome.value,
        "context_keys": [
            {"name": key.name, "examples": key.examples} for key in action.context_keys
        ],
    }  # fmt: skip


@pytest.fixture
def portal() -> Iterator[Portal]:
    server = Portal()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool.sqlite3"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PAUSE", 0.02)


@pytest.fixture
def client(portal: Portal, spool: Path) -> Iterator[AuditClient]:
    """A client that sends only when it is told to, or when a batch is full."""
    with AuditClient(portal.url, "key", spool=spool, flush_interval=60) as client:
        yield client


def numbers(events: list[Any]) -> list[int]:
    return [event["context"]["n"] for event in events]


def record(client: AuditClient, count: int, **fields: Any) -> None:
    for n in range(count):
        client.record(action="data_viewed", context={"n": n}, **fields)


def until(found: Callable[[], Any], seconds: float = 10) -> Any:
    end = time.monotonic() + seconds
    while not found() and time.monotonic() < end:
        time.sleep(0.01)
    return found()


# --- with the real portal ----------------------------------------------------------------------


@pytest.fixture
def live(own_database: str) -> Iterator[tuple[str, str]]:
    """The address of the portal itself, and a key that may write."""
    _, key = issue_key(source="payments", name="client", scopes=["write"])
    server = LiveServer("127.0.0.1")
    yield server.url, key
    server.stop()


def stored() -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(source="payments").order_by("occurred_at", "id"))


def test_the_portal_stores_what_is_recorded(live: tuple[str, str], spool: Path) -> None:
    with AuditClient(*live, spool=spool, number_events=True) as client:
        id = client.record(**LOGIN | {"action": AuditAction.USER_LOGIN_FAILED})
        client.record(**LOGIN)
        assert client.flush() == 0
        assert client.stats()[:5] == ("ok", "", 2, 0, 0)
    first, second = stored()
    assert (first.id, first.action, first.user_id) == (id, "user_login_failed", "u-1")
    assert (first.source_seq, second.source_seq) == (1, 2)
    assert first.occurred_at < first.recorded_at
    assert spool.stat().st_mode & 0o777 == 0o600


def test_the_portals_refusals_go_to_the_dead_letters(live: tuple[str, str], spool: Path) -> None:
    with AuditClient(*live, spool=spool, flush_interval=60) as client:
        client.record(action="user_logout", user_id="first")
        client.record(action="user_logot")
        client.record(action="user_logout", user_id="\ud800")
        client.record(action="user_logout", context={"n": float("nan")})
        client.record(action="user_logout", context={"long": "x" * 70_000})
        client.record(action="user_logout", id="01700000-0000-7000-8000-000000000000")
        id = client.record(action="user_logout", user_id="last")
        client.record(action="user_logout", user_id="other", id=id)
        assert client.flush() == 0
        reasons = [letter.reason for letter in client.dead_letters()]
    assert [event.user_id for event in stored()] == ["first", "last"]
    assert "unknown_action /action" in reasons[0]
    assert len(reasons) == 6
    assert any("409 id_conflict" in reason for reason in reasons)


PATTERNS = {
    "user_login": ("user_login_attempted", "user_login_success", "user_login_failed"),
    "access": ("access_attempted", "access_granted", "access_denied"),
    "rate_limit_check": (
        "rate_limit_check_attempted", "rate_limit_check_allowed", "rate_limit_check_denied",
    ),
    "data_view": (None, "data_viewed", None),
    "suspicious_session_activity": (None, "suspicious_session_activity", None),
    "password_reset_request": (
        "password_reset_request_attempted", "user_password_reset_requested", None,
    ),
    "password_reset_confirm": (
        "password_reset_confirm_attempted", "user_password_reset_completed",
        "password_reset_confirm_failed",
    ),
}  # fmt: skip


def test_an_operation_finds_its_actions(live: tuple[str, str], spool: Path) -> None:
    with AuditClient(*live, spool=spool) as client:
        for name in PATTERNS:
            with client.operation(name, correlation_id=f"{name} works"):
                pass
            with client.operation(name, correlation_id=f"{name} fails") as operation:
                operation.fail("no_luck")
        assert client.flush() == 0
        assert client.dead_letters() == []
    found: dict[Any, list[str]] = {}
    for event in stored():
        found.setdefault(event.correlation_id, []).append(event.action)
    for name, (attempt, success, failure) in PATTERNS.items():
        assert found.get(f"{name} works") == [*filter(None, [attempt, success])]
        assert found.get(f"{name} fails", []) == [*filter(None, [attempt, failure])]


def test_a_renewed_key_takes_hold(
    live: tuple[str, str], spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url, old = live
    ApiKey.objects.update(revoked=True)
    keys = [old]
    with AuditClient(url, lambda: keys[-1], spool=spool, flush_interval=0.05) as client:
        client.record(**LOGIN)
        assert until(lambda: client.stats().state == "blocked")
        assert client.stats().waiting == 1
        assert "401" in client.stats().problem
        assert any(said.levelname == "ERROR" for said in caplog.records)
        keys.append(issue_key(source="payments", name="new", scopes=["write"])[1])
        assert until(lambda: client.stats()[:2] == ("ok", ""))
        assert client.flush() == 0
    assert len(stored()) == 1


# --- answers -----------------------------------------------------------------------------------


def test_events_go_in_batches_in_their_order(portal: Portal, spool: Path) -> None:
    with AuditClient(portal.url, "key", spool=spool, batch=4, flush_interval=60) as client:
        record(client, 3)
        time.sleep(0.1)
        assert portal.batches == [], "it waits for a whole batch"
        record(client, 7)
        assert client.flush() == 0
    assert all(len(batch) <= 4 for batch in portal.batches)
    assert numbers(portal.stored) == [*range(3), *range(7)]
    ids = [event["id"] for event in portal.stored]
    assert ids == sorted(set(ids))
    assert set(portal.keys) == {"Api-Key key"}


def test_events_wait_no_longer_than_the_interval(portal: Portal, spool: Path) -> None:
    with AuditClient(portal.url, "key", spool=spool, flush_interval=0.1) as client:
        record(client, 2)
        assert until(lambda: len(portal.stored) == 2, 2)


def test_a_batch_is_bounded_in_bytes(
    client: AuditClient, portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BODY", 1_000)
    for n in range(10):
        client.record(action="data_viewed", context={"n": n, "text": "ü" * 150})
    assert client.flush() == 0
    assert [len(batch) for batch in portal.batches] == [2, 2, 2, 2, 2]
    with pytest.raises(ValueError, match="too large"):
        client.record(action="data_viewed", context={"text": "x" * 1_000})


@pytest.mark.parametrize(
    "answer",
    [
        drop, reply(500), reply(502), reply(503), reply(408), reply(429), reply(200), reply(301),
        reply(404), reply(403), reply(400), reply(201, {"count": 3, "results": [{"id": "x"}] * 3}),
        reply(200, b"\xff" * 10), reply(400, {"type": "urn:auditportal:problem:bad-request"}),
    ],
)  # fmt: skip
def test_whatever_is_no_answer_about_the_events_keeps_them(
    portal: Portal, spool: Path, answer: Answer
) -> None:
    portal.script = [answer, answer]
    with AuditClient(portal.url, "key", spool=spool, flush_interval=0.01) as client:
        record(client, 3)
        assert until(lambda: client.stats().waiting == 0)
        assert client.dead_letters() == []
    assert {tuple(numbers(batch[:3])) for batch in portal.batches} >= {(0, 1, 2)}
    assert len({event["id"] for event in portal.stored}) == 3


def test_a_slow_portal_is_asked_again(portal: Portal, spool: Path) -> None:
    portal.script = [lambda *_: time.sleep(0.5)]
    with AuditClient(portal.url, "key", spool=spool, timeout=0.1, flush_interval=0.01) as client:
        record(client, 1)
        assert until(lambda: portal.stored)
    assert len(portal.stored) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_kept_also_by_a_flush(
    client: AuditClient, portal: Portal, status: int
) -> None:
    portal.script = [reply(status, Retry_After="1")]
    record(client, 1)
    assert client.flush(0.5) == 1
    assert client.stats().state == "retrying"
    assert client.flush(3) == 0
    assert portal.times[1] - portal.times[0] >= 1


def test_retry_after_may_be_a_date_and_has_a_bound() -> None:
    def seconds(value: str) -> float:
        return module._retry_after(module.httpx.Response(503, headers={"Retry-After": value}))

    soon = module.datetime.fromtimestamp(time.time() + 100, module.UTC)
    assert 97 < seconds(soon.strftime("%a, %d %b %Y %H:%M:%S GMT")) <= 100
    assert [seconds("7"), seconds("soon"), seconds("-1"), seconds("")] == [7, 0, 0, 0]
    assert module._Later("", after=1e9).after == 900


def test_pauses_grow_and_differ(client: AuditClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PAUSE", 60)
    monkeypatch.setattr(module.random, "uniform", lambda _, high: high)
    sender, pauses = client._sender, []
    for _ in range(12):
        sender._postpone(module._Later(""))
        pauses.append(round(sender.not_before - sender.asked, 3))
    assert pauses == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]
    sender.hurry()


@pytest.mark.parametrize("status", [400, 409, 413])
def test_the_named_events_are_refused_and_the_others_sent(
    client: AuditClient, portal: Portal, status: int
) -> None:
    portal.script = [refuse(1, 3, 3, 99, -1, status=status)]
    record(client, 5)
    assert client.flush() == 0
    assert numbers(portal.stored) == [0, 2, 4]
    first, second = client.dead_letters()
    assert (first.event["context"], second.event["context"]) == ({"n": 1}, {"n": 3})
    assert first.reason == f"{status} bad /x no"
    assert second.reason.count("bad") == 2
    assert client.retry_dead_letters() == 2
    assert client.flush() == 0
    assert numbers(portal.stored) == [0, 2, 4, 1, 3]
    assert client.dead_letters() == []


def test_when_none_is_named_the_bad_one_is_searched(client: AuditClient, portal: Portal) -> None:
    portal.script = [refuse_bad] * 40
    for n in range(20):
        client.record(
            action="data_viewed", user_id="bad" if n in (7, 19) else "x", context={"n": n}
        )
    assert client.flush() == 0
    assert numbers(portal.stored) == [n for n in range(20) if n not in (7, 19)]
    assert [letter.event["context"]["n"] for letter in client.dead_letters()] == [7, 19]
    assert client.discard_dead_letters() == 2
    assert client.stats().dead_letters == 0


def test_a_proxy_that_takes_only_small_bodies_gets_small_ones(
    client: AuditClient, portal: Portal
) -> None:
    portal.script = [
        lambda handler, events: (reply(413) if len(events) > 2 else accept)(handler, events)
    ] * 20
    record(client, 8)
    assert client.flush() == 0
    assert numbers(portal.stored) == [*range(8)]


def test_an_unknown_operation_blocks_nothing(client: AuditClient, portal: Portal) -> None:
    with client.operation("user_logn"):
        client.record(action="user_logout")
    assert client.flush() == 0
    assert [event["action"] for event in portal.stored] == ["user_logout"]
    assert "no operation 'user_logn'" in client.dead_letters()[0].reason


# --- operations --------------------------------------------------------------------------------


class OAuthTokenError(Exception):
    pass


def test_an_operation_that_raises_is_a_failure_and_goes_on(
    client: AuditClient, portal: Portal
) -> None:
    with (  # noqa: PT012
        pytest.raises(OAuthTokenError),
        client.operation("user_login", user_id="ada", context={"method": "oauth"}) as operation,
    ):
        operation.context["attempts"] = 2
        raise OAuthTokenError("the secret is 1234")
    assert client.flush() == 0
    attempt, failure = portal.stored
    assert (attempt["action"], failure["action"]) == ("user_login_attempted", "user_login_failed")
    assert attempt["context"] == {"method": "oauth"}
    assert failure["context"] == {"attempts": 2, "reason": "o_auth_token_error"}
    assert attempt["user_id"] == failure["user_id"] == "ada"
    assert attempt["correlation_id"] == failure["correlation_id"]
    assert "1234" not in json.dumps(portal.stored)


class ApiError(Exception):
    pass


class TooLateError(Exception):
    reason = "too_late"


REASONS = {
    "the class": (KeyError("x"), "user_login", {"reason": "key_error"}),
    "a usual value": (ApiError("x"), "account_sync", {"reason": "api_error"}),
    "a usual value, shortened": (TimeoutError("x"), "data_export", {"reason": "timeout"}),
    "its own": (TooLateError("x"), "user_login", {"reason": "too_late"}),
    "no motive": (KeyError("x"), "session_revocation", {"failure_reason": "key_error"}),
    "an exit": (SystemExit(1), "user_login", {"reason": "interrupted"}),
}


@pytest.mark.parametrize("name", REASONS)
def test_the_reason_of_a_failure_is_a_code_of_the_recorder(
    client: AuditClient, portal: Portal, name: str
) -> None:
    error, operation, expected = REASONS[name]
    with pytest.raises(type(error)), client.operation(operation):
        raise error
    assert client.flush() == 0
    failure = course(operation).failure
    assert failure is not None
    assert portal.stored[-1]["context"] == expected == failure_context(failure, {}, error=error)


def test_a_reason_that_is_stated_counts(client: AuditClient, portal: Portal) -> None:
    with client.operation("session_revocation", context={"reason": "logout"}) as operation:
        operation.fail("not_found", session_id="s-1")
    with client.operation("user_login", context={"reason": "no_such_user"}) as operation:
        operation.fail()
    assert client.flush() == 0
    assert portal.stored[1]["action"] == "session_revocation_failed"
    assert portal.stored[1]["context"] == {
        "reason": "logout", "failure_reason": "not_found", "session_id": "s-1"
    }  # fmt: skip
    assert portal.stored[3]["context"] == {"reason": "no_such_user"}


def test_operations_work_before_the_portal_was_ever_reached(portal: Portal, spool: Path) -> None:
    with AuditClient("http://127.0.0.1:1", "key", spool=spool) as client:
        with client.operation("user_login"):
            client.record(action="user_logout")
        assert client.close(0.2) == 3
    with AuditClient(portal.url, "key", spool=spool) as client:
        assert client.flush() == 0
    by_time = sorted(portal.stored, key=lambda event: event["id"])
    actions = [event["action"] for event in by_time]
    assert actions == ["user_login_attempted", "user_logout", "user_login_success"]
    assert portal.gets == 1


def test_coroutines_record_too(portal: Portal, spool: Path) -> None:
    async def visit(client: AsyncAuditClient, n: int) -> None:
        async with client.operation("user_login", user_id=f"u-{n}"):
            await client.record(action="data_viewed", user_id=f"u-{n}")

    async def main() -> None:
        async with AsyncAuditClient(portal.url, "key", spool=spool) as client:
            await asyncio.gather(*(visit(client, n) for n in range(20)))
            with pytest.raises(asyncio.CancelledError):
                async with client.operation("user_login", user_id="gone"):
                    raise asyncio.CancelledError
            assert await client.flush() == 0

    asyncio.run(main())
    assert len(portal.stored) == 62
    last = [event for event in portal.stored if event.get("user_id") == "gone"][-1]
    assert last["context"] == {"reason": "cancelled"}


# --- the spool ---------------------------------------------------------------------------------

CRASHER = """
import os, signal, sys
sys.path.insert(0, {folder!r})
from client import AuditClient
client = AuditClient("http://127.0.0.1:1", "key", spool={spool!r})
for n in range(1000):
    client.record(action="data_viewed", context={{"n": n}})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_crash_loses_nothing(portal: Portal, spool: Path, tmp_path: Path) -> None:
    (tmp_path / "client.py").write_text(Path(module.__file__).read_text())
    code = CRASHER.format(folder=str(tmp_path), spool=str(spool))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    with AuditClient(portal.url, "key", spool=spool) as client:
        assert client.flush() == 0
    assert numbers(portal.stored) == [*range(1000)]


def test_the_file_can_be_copied_out() -> None:
    found = set()
    for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add(str(node.module).split(".")[0])
    assert found - set(sys.stdlib_module_names) == {"httpx"}


def test_events_are_on_the_disk_when_record_returns(client: AuditClient, spool: Path) -> None:
    record(client, 1)
    assert client._spool._db is not None
    assert client._spool._db.execute("PRAGMA synchronous").fetchone() == (2,)
    with sqlite3.connect(spool) as other:
        assert other.execute("SELECT count(*) FROM events").fetchone() == (1,)
    other.close()


def test_a_full_spool_says_so(
    portal: Portal, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with AuditClient(
        portal.url, "key", spool=spool, max_spool_bytes=100_000, flush_interval=60
    ) as client:
        with pytest.raises(SpoolFull, match="100000 bytes"):
            record(client, 1_000)
        assert "NOT recorded" in caplog.text
        assert caplog.records[-1].levelname == "CRITICAL"
        waiting = client.stats().waiting
        assert 100 < waiting < 1_000
        assert client.flush() == 0
        record(client, 1)
        with pytest.raises(KeyError), client.operation("user_login"):  # noqa: PT012
            client._spool.max_bytes = 0
            raise KeyError  # is not hidden by the full spool
        assert client.stats().bytes < 110_000


def test_a_full_disk_says_so(client: AuditClient) -> None:
    with client._spool.transaction():
        pass
    assert client._spool._db is not None
    client._spool._db.execute("PRAGMA max_page_count = 20")  # SQLite then says what a disk does
    with pytest.raises(SpoolFull, match="full"):
        record(client, 1_000)
    assert client.flush() == 0


def test_threads_share_a_client(client: AuditClient, portal: Portal) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: client.record(action="data_viewed", context={"n": n}), range(400)))
    assert client.flush() == 0
    assert sorted(numbers(portal.stored)) == [*range(400)]


def test_processes_share_a_spool_and_send_nothing_twice(portal: Portal, spool: Path) -> None:
    code = (
        "import sys; from audit.client import AuditClient\n"
        "url, spool, name = sys.argv[1:]\n"
        "client = AuditClient(url, 'key', spool=spool, batch=20, flush_interval=0.02,"
        " number_events=True)\n"
        "for n in range(200): client.record(action='data_viewed', context={'n': n})\n"
        "client.close(20)\n"
    )
    arguments = [[sys.executable, "-c", code, portal.url, str(spool), name] for name in "abc"]
    repository = Path(__file__).parent.parent
    running = [subprocess.Popen(argument, cwd=repository) for argument in arguments]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert sorted(event["source_seq"] for event in portal.stored) == [*range(1, 601)]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # Python 3.12 warns of threads
def test_a_forked_child_records_and_sends_by_itself(client: AuditClient, portal: Portal) -> None:
    record(client, 5)
    for _ in range(3):
        child = os.fork()
        if child == 0:
            try:
                record(client, 50, user_id="child")
                os._exit(client.flush(20))
            finally:
                os._exit(99)
        record(client, 50, user_id="parent")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert client.flush() == 0
    ids = [event["id"] for event in portal.stored]
    assert (len(ids), len(set(ids))) == (305, 305)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # Python 3.12 warns of threads
def test_a_fork_while_threads_record_hangs_nobody(client: AuditClient, portal: Portal) -> None:
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(record, client, 100) for _ in range(4)]
        for _ in range(10):
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                try:
                    record(client, 1)
                finally:
                    os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        for future in done:
            future.result()
    assert client.flush() == 0
    assert len(portal.stored) == 410


def test_close_says_what_is_left_in_time(spool: Path, caplog: pytest.LogCaptureFixture) -> None:
    client = AuditClient("http://127.0.0.1:1", "key", spool=spool)
    record(client, 3)
    start = time.monotonic()
    assert client.close(0.3) == 3
    assert time.monotonic() - start < 2
    assert "3 audit events are left" in caplog.text
    with pytest.raises(RuntimeError, match="closed"):
        record(client, 1)
    assert client.close() == 3


def test_a_process_that_ends_sends_what_it_has(portal: Portal, spool: Path) -> None:
    code = (
        "import sys; from audit.client import AuditClient\n"
        "client = AuditClient(*sys.argv[1:3], spool=sys.argv[3], flush_interval=60)\n"
        "client.record(action='user_logout')\n"
    )
    command = [sys.executable, "-c", code, portal.url, "key", str(spool)]
    subprocess.run(command, cwd=Path(__file__).parent.parent, timeout=30, check=True)
    assert len(portal.stored) == 1


def test_values_that_json_does_not_know_become_text(client: AuditClient, portal: Portal) -> None:
    at = module.datetime(2026, 3, 1, 9, 30, tzinfo=module.UTC)
    client.record(
        action=AuditAction.USER_LOGOUT, occurred_at=at, resource_id=at.date(),
        context={"a": {1}, "b": portal, "c": AuditAction.USER_LOGOUT, "d": "ä😀"},
    )  # fmt: skip
    assert client.flush() == 0
    (event,) = portal.stored
    assert event["occurred_at"] == "2026-03-01T09:30:00+00:00"
    assert (event["action"], event["resource_id"]) == ("user_logout", "2026-03-01")
    assert event["context"] == {"a": [1], "b": str(portal), "c": "user_logout", "d": "ä😀"}
