"""The embedded PostgreSQL: starts when wanted, is shared, stops with its last user, loses nothing.

Each test has a real server of its own, a copy of one that was made at the start.
"""

import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest

from auditportal.embedded import EmbeddedServerError, root, server
from auditportal.embedded.cluster import PORT, Cluster

pytestmark = pytest.mark.embedded
REPOSITORY = Path(__file__).parent.parent
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="is about running as root")

USE = """
    import sys
    from pathlib import Path
    import psycopg
    from auditportal.embedded import server
    data_dir = Path(sys.argv[1])
    cluster = server.running(data_dir)
"""
USE_AND_WAIT = (
    USE
    + """
    print("running", flush=True)
    sys.stdin.read()
"""
)
QUERY_BY_DJANGO = """
    import sys
    from pathlib import Path
    from django.conf import settings
    from django.core.management import execute_from_command_line
    database = {"ENGINE": "auditportal.embedded", "NAME": "auditportal"}
    database["USER"] = "auditportal_owner"
    pooled = database | {"OPTIONS": {"pool": True}}
    settings.configure(DATABASES={"default": database, "pooled": pooled},
                       AUDITPORTAL_DATA_DIR=Path(sys.argv[1]))
    import django
    django.setup()
    from django.db import connections
"""


def folder_for_many_files() -> str | None:
    """Memory where there is enough: copying a cluster to disk can take as long as making one."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2**30
    return str(memory) if roomy else None


@pytest.fixture(scope="session")
def made() -> Iterator[Path]:
    """A cluster that is made and stopped, for copying: initdb takes a second each time."""
    folder = Path(tempfile.mkdtemp(prefix="embedded-", dir=folder_for_many_files()))
    server.running(folder)
    server.leave(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def empty() -> Iterator[Path]:
    """A data directory without anything, outside pytest's private folders."""
    folder = Path(tempfile.mkdtemp(prefix="embedded-", dir=folder_for_many_files()))
    folder.chmod(0o755)
    yield folder
    server.leave(folder)
    shutil.rmtree(folder)


@pytest.fixture
def data_dir(empty: Path, made: Path) -> Path:
    copy_cluster(made, empty)
    return empty


def copy_cluster(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", str(source / "postgres"), str(target)], check=True)


_started: list["subprocess.Popen[str]"] = []


@pytest.fixture(autouse=True)
def _no_process_outlives_its_test() -> Iterator[None]:
    yield
    while _started:
        with _started.pop() as process:  # which closes its pipes
            process.kill()


def python(script: str, *arguments: object, **options: object) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [
            str(options.pop("executable", sys.executable)),
            "-c",
            textwrap.dedent(script),
            *map(str, arguments),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **({"cwd": REPOSITORY} | options),  # type: ignore[call-overload]
    )
    _started.append(process)
    return process


def user_of(data_dir: Path) -> "subprocess.Popen[str]":
    """Another process that uses the server until its input ends."""
    process = python(USE_AND_WAIT, data_dir)
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n", process.communicate()
    return process


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def status(data_dir: Path) -> str | None:
    return Cluster(data_dir.resolve()).status()


def query(data_dir: Path, sql: str, user: str = "auditportal_owner") -> list[tuple[object, ...]]:
    with psycopg.connect(server.running(data_dir).dsn(user, "auditportal")) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchall() if cursor.description else []


def test_the_first_start_makes_roles_and_a_database_for_them(empty: Path) -> None:
    roles = query(
        empty,
        "SELECT rolname, rolcanlogin, rolcreatedb, rolsuper FROM pg_roles"
        " WHERE rolname LIKE 'auditportal%' ORDER BY 1",
    )
    assert roles == [
        ("auditportal_owner", True, True, False),
        ("auditportal_web", True, False, False),
        ("auditportal_worker", True, False, False),
    ]
    database = "SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate"
    assert query(empty, f"{database} FROM pg_database WHERE datname = 'auditportal'") == [
        ("auditportal_owner", "UTF8", "C")
    ]
    for user in ("auditportal_web", "auditportal_worker"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            query(empty, "CREATE TABLE mine (id int)", user)


def test_evidence_settings(data_dir: Path) -> None:
    names = "fsync synchronous_commit data_checksums TimeZone max_connections shared_buffers"
    shown = [query(data_dir, f"SHOW {name}")[0][0] for name in names.split()]
    assert shown == ["on", "on", "on", "UTC", "100", "256MB"]
    assert query(data_dir, "SELECT lower('ÄÖ'), 'a' < 'B' COLLATE \"default\"") == [("äö", False)]


def test_what_the_server_logs_of_an_error_quotes_no_row(data_dir: Path) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="Failing row contains"):
        query(data_dir, "CREATE TEMP TABLE t (a text CHECK (a = '')); INSERT INTO t SELECT 'Ada'")
    logged = server.running(data_dir).log.read_text()
    assert "violates check constraint" in logged
    assert "Ada" not in logged


def test_no_tcp_and_a_socket_for_its_own_user_only(data_dir: Path) -> None:
    cluster = server.running(data_dir)
    assert query(data_dir, "SHOW listen_addresses") == [("",)]
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", PORT)):
        pass
    mode = (cluster.socket_dir / f".s.PGSQL.{PORT}").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o700


def test_a_superuser_can_be_had_for_tampering(data_dir: Path) -> None:
    with psycopg.connect(server.superuser_dsn(data_dir)) as connection:
        found = connection.execute("SELECT current_setting('is_superuser'), current_database()")
        assert found.fetchone() == ("on", "auditportal")


def test_it_starts_again_after_a_stop_with_its_data(data_dir: Path) -> None:
    query(data_dir, "CREATE TABLE kept AS SELECT 1 AS id")
    server.leave(data_dir)
    assert status(data_dir) is None
    assert query(data_dir, "SELECT id FROM kept") == [(1,)]


def test_two_commands_at_once_on_an_empty_directory(empty: Path) -> None:
    commands = [python(USE_AND_WAIT, empty) for _ in "ab"]
    for command in commands:
        assert command.stdout is not None
        assert command.stdout.readline() == "running\n"
    assert query(empty, "SELECT 1") == [(1,)]
    errors = [command.communicate()[1] for command in commands]
    assert sum(error.count("is made in") for error in errors) == 1
    assert [command.returncode for command in commands] == [0, 0]
    assert sorted(path.name for path in empty.iterdir()) == ["postgres"]


def test_two_commands_at_once_on_existing_data(data_dir: Path) -> None:
    commands = [python(USE_AND_WAIT, data_dir) for _ in "ab"]
    results = [command.communicate() for command in commands]
    assert results == [("running\n", "")] * 2
    assert status(data_dir) is None


def test_a_second_process_finds_it_and_the_last_one_out_stops_it(data_dir: Path) -> None:
    first, second = user_of(data_dir), user_of(data_dir)
    pid = postmaster(data_dir)
    assert first.communicate()[1] == ""
    assert (status(data_dir), postmaster(data_dir)) == ("ready", pid)
    assert second.communicate()[1] == ""
    assert status(data_dir) is None


def test_a_fork_keeps_it_running_when_its_parent_ends(data_dir: Path) -> None:
    script = (
        USE
        + """
    import os, time
    child = os.fork()
    if child:
        os.write(1, b"running\\n")
        sys.exit()
    sys.stdin.read()
    with psycopg.connect(server.running(data_dir).dsn("auditportal_web", "auditportal")):
        os.write(1, b"connected\\n")
    """
    )
    parent = python(script, data_dir)
    assert parent.wait(20) == 0
    assert status(data_dir) == "ready"
    assert parent.communicate()[0] == "running\nconnected\n"
    wait_until(lambda: status(data_dir) is None)


def kill_server(data_dir: Path) -> None:
    os.kill(postmaster(data_dir), signal.SIGKILL)
    wait_until(lambda: status(data_dir) is None)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_killed_server_is_started_again_with_every_committed_row(
    data_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    query(data_dir, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS id")
    kill_server(data_dir)
    assert query(data_dir, "SELECT count(*) FROM kept") == [(1000,)]
    assert "was not stopped in order, recovering" in capfd.readouterr().err


def test_a_killed_client_leaves_it_to_the_next_command_which_stops_it(data_dir: Path) -> None:
    client = user_of(data_dir)
    client.kill()
    client.wait()
    assert status(data_dir) == "ready"
    assert user_of(data_dir).communicate()[1] == ""
    assert status(data_dir) is None


def test_roles_that_a_killed_command_did_not_come_to_are_made_by_the_next(empty: Path) -> None:
    cluster = Cluster(empty.resolve())
    if os.geteuid() == 0:
        root.make_way(cluster.pgdata, empty)
    cluster.make()
    cluster.wake()
    assert query(empty, "SELECT 1") == [(1,)]


def test_what_a_killed_initdb_left_is_thrown_away(empty: Path) -> None:
    (empty / "postgres.new-killed").mkdir()
    server.running(empty)
    assert [path.name for path in empty.iterdir()] == ["postgres"]


@pytest.mark.parametrize("left", ["{pid}\n{pgdata}\n1\n5432\n\n\n  1 1\nready\n", "", "{pid}\n"])
def test_a_stale_pid_file_is_not_believed(data_dir: Path, left: str) -> None:
    """Neither with the number of a stranger (a process of the server's user), nor half-written."""
    owner = (data_dir / "postgres").stat()
    as_owner = {"user": owner.st_uid} if os.geteuid() == 0 else {}
    with subprocess.Popen(["sleep", "60"], cwd="/", **as_owner) as stranger:  # type: ignore[call-overload]
        pid_file = data_dir / "postgres" / "postmaster.pid"
        pid_file.write_text(left.format(pid=stranger.pid, pgdata=data_dir / "postgres"))
        assert query(data_dir, "SELECT 1") == [(1,)]
        server.leave(data_dir)
        assert stranger.poll() is None
        stranger.kill()


def test_a_server_of_which_parts_still_run_is_not_started_twice(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped child of a killed server still has the shared memory: PostgreSQL must see that."""
    connection = psycopg.connect(server.running(data_dir).dsn("auditportal_web", "auditportal"))
    os.kill(connection.info.backend_pid, signal.SIGSTOP)
    try:
        kill_server(data_dir)
        monkeypatch.setattr("auditportal.embedded.cluster.ORPHANS_WAIT", 1)
        with pytest.raises(EmbeddedServerError, match="pre-existing shared memory block"):
            server.running(data_dir)
    finally:
        os.kill(connection.info.backend_pid, signal.SIGKILL)
        connection.close()
    assert query(data_dir, "SELECT 1") == [(1,)]


def test_the_terminal_s_interrupt_does_not_reach_it(data_dir: Path) -> None:
    client = python(USE_AND_WAIT, data_dir, start_new_session=True)
    assert client.stdout is not None
    assert client.stdout.readline() == "running\n"
    server.running(data_dir)
    os.killpg(client.pid, signal.SIGINT)
    assert "KeyboardInterrupt" in client.communicate()[1]
    assert query(data_dir, "SELECT 1") == [(1,)]


def test_a_path_too_long_for_a_socket_and_with_odd_characters(empty: Path, made: Path) -> None:
    folder = empty / "it's a long path, é" / ("x" * 100)
    folder.mkdir(parents=True)
    copy_cluster(made, folder)
    try:
        assert query(folder, "SELECT 1") == [(1,)]
        assert server.running(folder).socket_dir.parent == Path("/tmp")
    finally:
        server.leave(folder)
    shutil.rmtree(Cluster(folder.resolve()).socket_dir)


def test_a_failure_is_one_sentence(data_dir: Path) -> None:
    (data_dir / "postgres" / "PG_VERSION").write_text("15\n")
    with pytest.raises(EmbeddedServerError, match=r"does not start: .*incompatible") as caught:
        server.running(data_dir)
    assert "\n" not in str(caught.value)


@AS_ROOT
def test_a_private_home_is_refused_and_stays_closed(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = empty / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setattr(pwd, "getpwall", lambda: [SimpleNamespace(pw_dir=str(home))])
    with pytest.raises(
        EmbeddedServerError, match=f"{home} is a private home.*AUDITPORTAL_DATA_DIR"
    ):
        server.running(home / "portal" / "var")
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert list(home.iterdir()) == []


@AS_ROOT
def test_another_closed_folder_is_opened_for_passing_and_named(
    empty: Path, made: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    private = empty / "private"
    private.mkdir(mode=0o700)
    copy_cluster(made, private)
    server.running(private)
    server.leave(private)
    assert f"may now pass through (not list): {private}\n" in capfd.readouterr().err
    assert stat.S_IMODE(private.stat().st_mode) == 0o701


@pytest.fixture
def nobody() -> Callable[..., "subprocess.Popen[str]"]:
    """Runs a script as the user nobody, by Debian's Python (ours may lie in root's home)."""
    entry = pwd.getpwnam("nobody")

    def run(script: str, *arguments: object) -> "subprocess.Popen[str]":
        return python(
            script,
            *arguments,
            executable="/usr/bin/python3",
            env={"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])},
            user=entry.pw_uid,
            group=entry.pw_gid,
            extra_groups=[],
        )

    try:
        probe = run("import auditportal.embedded.server, psycopg")
    except OSError as error:
        pytest.skip(f"nobody has no Python: {error}")
    if "Error" in (errors := probe.communicate()[1]):
        pytest.skip(f"nobody cannot read this checkout or its packages: {errors.splitlines()[-1]}")
    return run


@AS_ROOT
def test_it_runs_as_an_ordinary_user_and_root_may_use_it_too(
    empty: Path, nobody: Callable[..., "subprocess.Popen[str]"]
) -> None:
    shutil.chown(empty, "nobody")
    output, errors = nobody(USE_AND_WAIT, empty).communicate()
    assert (output, errors.count("\n")) == ("running\n", 1)
    assert query(empty, "SELECT 1") == [(1,)]
    assert (empty / "postgres").owner() == "nobody"


@AS_ROOT
def test_a_stale_pid_file_of_the_same_user_is_not_believed(
    data_dir: Path, nobody: Callable[..., "subprocess.Popen[str]"]
) -> None:
    subprocess.run(["chown", "-R", "nobody", str(data_dir)], check=True)
    stranger = nobody("import sys; sys.stdin.read()")
    pid_file = data_dir / "postgres" / "postmaster.pid"
    pid_file.write_text(f"{stranger.pid}\n{data_dir}/postgres\n1\n5432\n\n\n 1 1\nready\n")
    assert nobody(USE_AND_WAIT, data_dir).communicate()[0] == "running\n"
    assert stranger.poll() is None
    stranger.communicate()


@AS_ROOT
def test_an_ordinary_user_is_told_whose_data_they_are(
    data_dir: Path, nobody: Callable[..., "subprocess.Popen[str]"]
) -> None:
    assert (
        "belongs to pgserver: run this command as pgserver"
        in nobody(USE, data_dir).communicate()[1]
    )


def test_django_starts_it_with_the_first_query_only(data_dir: Path) -> None:
    script = (
        QUERY_BY_DJANGO
        + """
    assert not (Path(sys.argv[1]) / "postgres" / "postmaster.pid").exists()
    for alias in connections:
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT current_user, current_database()")
            print(*cursor.fetchone())
    connections["pooled"].close_pool()
    """
    )
    output, errors = python(script, data_dir).communicate()
    assert (output, errors) == ("auditportal_owner auditportal\n" * 2, "")
    assert status(data_dir) is None


def test_django_can_make_and_drop_its_test_database(data_dir: Path) -> None:
    script = (
        QUERY_BY_DJANGO
        + """
    creation = connections["default"].creation
    creation.create_test_db(verbosity=0, serialize=False)
    with connections["default"].cursor() as cursor:
        cursor.execute("CREATE TABLE probe AS SELECT current_database()")
    creation.destroy_test_db("auditportal", verbosity=0)
    print("done")
    """
    )
    assert python(script, data_dir).communicate() == ("done\n", "")


def test_django_reconnects_after_the_server_was_killed(data_dir: Path) -> None:
    script = (
        QUERY_BY_DJANGO
        + """
    import os, signal, time
    from auditportal.embedded.cluster import Cluster
    def ask():
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT 1")
    ask()
    os.kill(int((Path(sys.argv[1]) / "postgres/postmaster.pid").read_text().split()[0]), 9)
    connections["default"].close()
    while Cluster(Path(sys.argv[1])).status():
        time.sleep(0.01)
    ask()
    print("done")
    """
    )
    output, errors = python(script, data_dir).communicate()
    assert (output, errors.count("\n")) == ("done\n", 1), errors


def test_a_django_command_says_one_line_when_it_cannot_be_had(data_dir: Path) -> None:
    (data_dir / "postgres" / "PG_VERSION").write_text("15\n")
    script = (
        QUERY_BY_DJANGO
        + """
    execute_from_command_line(["manage.py", "showmigrations"])
    """
    )
    command = python(script, data_dir)
    errors = command.communicate()[1]
    assert command.returncode == 1
    assert errors.startswith("EmbeddedServerError: the database does not start")
    assert errors.count("\n") == 1
