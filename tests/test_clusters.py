"""Servers of our own: alone on the loopback address, dead when they should be, and gone by their folder's name."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from fix_debian import DEBIAN
from fix_postgres import QUICK, end_cluster, new_cluster, run_sql

from drills.addresses import Address
from drills.clusters import QUARANTINE, Cluster, destroy_cluster, make_cluster, processes_using, remove_folder
from drills.errors import ClusterError, ToolError
from drills.places import server_account
from drills.processes import spawn, stop_process
from drills.records import Surroundings
from drills.sessions import STAGING_LIMITS, Access, connect, describe
from drills.staging import THROW_AWAY, look_at_surroundings, make_database, run_like_production
from drills.tools import Tools, embedded_tools

BUSY = "SELECT sum(a * b) FROM generate_series(1, 100000) a, generate_series(1, 1000000) b"


def wait_until(holds: Callable[[], object], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that servers can reach."""
    with tempfile.TemporaryDirectory(prefix="drillbook-place-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def lasting() -> Iterator[Cluster]:
    """One server for the tests that leave it whole."""
    made = new_cluster(QUICK)
    yield made
    end_cluster(made)


@pytest.fixture
def server(lasting: Cluster) -> Iterator[Cluster]:
    """It runs before every test, and after."""
    yield lasting
    if not lasting.running:
        lasting.kill()
        lasting.start(QUICK)


@contextlib.contextmanager
def busy(cluster: Cluster) -> Iterator[int]:
    """A backend in the midst of a statement that never waits; its process number."""
    address = cluster.address()
    client = subprocess.Popen(
        [cluster.tools.program("psql"), "-Xqc", BUSY],
        env=address.environment() | {"PGAPPNAME": "busy"},
        stderr=subprocess.DEVNULL,
    )
    find = "SELECT pid FROM pg_stat_activity WHERE application_name = 'busy' AND state = 'active'"
    try:
        wait_until(lambda: run_sql(address, find))
        yield int(run_sql(address, find)[0][0])
    finally:
        client.kill()
        client.wait()


def family(cluster: Cluster) -> list[psutil.Process]:
    assert cluster.process is not None
    postmaster = psutil.Process(cluster.process.pid)
    return [postmaster, *postmaster.children(recursive=True)]


def is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_server_starts_stops_and_starts_again_at_the_same_address(server: Cluster) -> None:
    address = server.address()
    run_sql(address, "CREATE TABLE kept (n int)")
    server.stop()
    assert not server.running
    server.stop()
    server.sync()
    server.start(QUICK)
    assert server.address() == address
    assert run_sql(address, "SELECT count(*) FROM kept") == [(0,)]


def test_a_copy_is_put_on_disk_where_an_outage_awaits_it_alone(server: Cluster) -> None:
    server.stop()
    server.start(THROW_AWAY)
    run_sql(server.address(), "CREATE TABLE loaded AS SELECT 1 AS id")
    for on_disk in (False, True):
        said = len(server.log.read_text())
        run_like_production(server, on_disk=on_disk)
        assert ("syncing data to disk" in server.log.read_text()[said:]) is on_disk
        assert run_sql(server.address(), "SELECT current_setting('fsync'), id FROM loaded") == [("on", 1)]
    run_sql(server.address(), "DROP TABLE loaded")


def test_a_server_that_runs_is_not_started_twice(server: Cluster) -> None:
    before = server.process
    with pytest.raises(ClusterError, match="runs already"):
        server.start(QUICK)
    assert server.process is before
    assert server.running


def test_kill_ends_every_process_of_the_server(server: Cluster) -> None:
    with busy(server):
        processes = family(server)
        assert len(processes) > 4
        server.kill()
        assert [process for process in processes if not is_gone(process)] == []
    assert server.process is None
    server.kill()
    server.start(QUICK)
    assert "database system was not properly shut down" in server.log.read_text()


def test_backends_that_outlive_their_postmaster_are_found_by_the_folder_and_killed(cluster: Cluster) -> None:
    with busy(cluster) as pid:
        assert cluster.process is not None
        os.kill(cluster.process.pid, signal.SIGKILL)
        cluster.process.wait()
        assert not is_gone(psutil.Process(pid))
        destroy_cluster(cluster.folder)
        assert not psutil.pid_exists(pid) or is_gone(psutil.Process(pid))
    assert not cluster.folder.exists()


def test_a_server_whose_postmaster_died_can_be_killed_and_started_again(server: Cluster) -> None:
    with busy(server):
        assert server.process is not None
        os.kill(server.process.pid, signal.SIGKILL)
        wait_until(lambda: not server.running)
        server.kill()
        server.start(QUICK)
    assert run_sql(server.address(), "SELECT 1") == [(1,)]


def test_a_server_is_destroyed_by_its_folder_alone(cluster: Cluster) -> None:
    processes = family(cluster)
    destroy_cluster(cluster.folder)
    assert all(is_gone(process) for process in processes)
    assert not cluster.folder.exists()
    destroy_cluster(cluster.folder)
    cluster.reap()
    assert not psutil.pid_exists(processes[0].pid)


def shared_memory(creator: int) -> list[str]:
    """Blocks of System V shared memory that this process made (proc(5))."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return [line for line in lines if int(line.split()[4]) == creator]


@pytest.mark.parametrize("how", ["as it runs", "killed before", "killed and started again"])
def test_a_destroyed_server_leaves_no_shared_memory(cluster: Cluster, how: str) -> None:
    """Of its blocks a machine has 4,096 for all servers, those of production included."""
    assert cluster.process is not None
    makers = [cluster.process.pid]
    assert len(shared_memory(makers[0])) == 1
    with busy(cluster):
        if how != "as it runs":
            cluster.kill()
            assert len(shared_memory(makers[0])) == 1
    if how == "killed and started again":
        cluster.start(QUICK)
        makers.append(cluster.process.pid)
    maps = []
    for process in family(cluster) if cluster.running else ():
        with contextlib.suppress(FileNotFoundError):  # one that ended meanwhile
            maps.append(Path(f"/proc/{process.pid}/maps").read_text())
    assert bool(maps) == cluster.running
    destroy_cluster(cluster.folder)
    assert [block for maker in makers for block in shared_memory(maker)] == []
    # What lies in /dev/shm would stay when the server is killed.
    assert [told for told in maps if "/PostgreSQL." in told] == []


def test_whoever_merely_looks_at_the_folder_is_left_alone(cluster: Cluster) -> None:
    with subprocess.Popen(["tail", "-f", cluster.log], stdout=subprocess.DEVNULL) as reader:  # noqa: S607
        other = cluster.folder.with_name(f"{cluster.folder.name}-other")
        assert [process.pid for process in processes_using(other)] == []
        assert reader.pid not in [process.pid for process in processes_using(cluster.folder)]
        destroy_cluster(cluster.folder)
        assert reader.poll() is None
        reader.kill()


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ("{}", True),
        ("{}/data", True),
        ("-D{}/data", True),
        ("--pgdata={}", True),
        ("/mnt{}/data", False),
        ("{}2", False),
    ],
)
def test_a_program_is_known_by_the_folder_and_not_by_one_that_reads_alike(
    place: Path, written: str, *, named: bool
) -> None:
    program = place / "postgres"
    folder = place / "data of one"
    program.write_bytes(Path("/bin/sh").resolve().read_bytes())
    program.chmod(0o755)
    log = place / "log"
    process = spawn([str(program), "-c", "echo runs; sleep 600; :", written.format(folder)], environment={}, log=log)
    try:
        wait_until(lambda: log.read_text() == "runs\n")
        assert [found.pid for found in processes_using(folder)] == ([process.pid] if named else [])
    finally:
        stop_process(process)


@pytest.mark.parametrize("name", ["pg_basebackup", "pg_combinebackup", "pg_verifybackup", "pgbackrest", "barman"])
def test_whatever_brings_a_copys_files_is_found_by_its_folder_too(place: Path, name: str) -> None:
    """The kernel cuts names after fifteen letters."""
    program, folder, log = place / name, place / "copy", place / "log"
    program.write_bytes(Path("/bin/sh").resolve().read_bytes())
    program.chmod(0o755)
    process = spawn([str(program), "-c", "echo runs; sleep 600; :", f"--to={folder}/data"], environment={}, log=log)
    try:
        wait_until(lambda: log.read_text() == "runs\n")
        destroy_cluster(folder)
        assert is_gone(psutil.Process(process.pid))
    finally:
        stop_process(process)


def test_a_link_is_refused_before_anything_is_killed(server: Cluster, place: Path) -> None:
    link = place / "link"
    link.symlink_to(server.folder)
    with pytest.raises(ClusterError, match="is a symbolic link"):
        destroy_cluster(link)
    with pytest.raises(ClusterError, match="is a symbolic link"):
        remove_folder(link)
    assert run_sql(server.address(), "SELECT 1") == [(1,)]


def test_a_new_server_takes_another_port_where_one_is_taken(server: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    server.stop()
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        free, taken = server.port, squatter.getsockname()[1]
        ports = iter([taken, taken, free])
        monkeypatch.setattr("drills.clusters.free_port", lambda: next(ports))
        server.port = 0
        server.start(QUICK)
    assert server.port == free
    assert run_sql(server.address(), "SELECT 1") == [(1,)]


def test_a_port_that_others_know_is_waited_for_and_not_changed(server: Cluster) -> None:
    server.stop()
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", server.port))
        squatter.listen()
        before = server.port
        with pytest.raises(ClusterError, match=r"did not start: .*could not create any TCP/IP sockets"):
            server.start(QUICK, deadline=0.5)
    assert server.port == before
    server.start(QUICK)


def test_another_server_at_the_port_is_not_taken_for_ours(
    server: Cluster, production: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server.process is not None
    until = time.monotonic() + 5
    assert server._answers(server.process, until)
    monkeypatch.setattr(server, "port", production.port)
    assert not server._answers(server.process, time.monotonic() + 0.3)
    monkeypatch.setattr(server, "password", production.password)
    assert not server._answers(server.process, until)


def test_a_server_dies_when_the_program_that_started_it_is_killed(place: Path) -> None:
    folder, told = place / "cluster", place / "told"
    parent = os.fork()
    if parent == 0:
        try:
            cluster = make_cluster(folder, embedded_tools())
            cluster.start(QUICK)
            told.write_text("runs")
            signal.pause()
        finally:
            os._exit(1)
    wait_until(told.exists, 60)
    processes = processes_using(folder)
    assert len(processes) > 4
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    wait_until(lambda: all(is_gone(process) for process in processes))
    destroy_cluster(folder)


def test_it_listens_on_the_loopback_address_alone_and_asks_for_a_password(server: Cluster) -> None:
    assert server.process is not None
    listening = [
        line for line in psutil.Process(server.process.pid).net_connections(kind="all") if line.status in {"LISTEN", ""}
    ]
    assert [line.laddr.ip for line in listening if line.family == socket.AF_INET] == ["127.0.0.1"]
    assert [line for line in listening if line.family != socket.AF_INET and line.laddr] == []
    for setting, value in QUARANTINE.items():
        assert run_sql(server.address(), f"SHOW {setting}") == [(value,)]
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(**server.address().parts)  # type: ignore[arg-type]


def test_the_copys_own_configuration_cannot_lift_the_quarantine(cluster: Cluster) -> None:
    cluster.stop()
    with (cluster.data / "postgresql.auto.conf").open("a") as file:
        file.write("listen_addresses = '*'\narchive_mode = 'on'\nunix_socket_directories = '/tmp'\n")
    cluster.start({**QUICK, "listen_addresses": "*"})
    assert run_sql(cluster.address(), "SHOW listen_addresses") == [("127.0.0.1",)]
    assert run_sql(cluster.address(), "SHOW archive_mode") == [("off",)]


def test_the_password_is_in_no_argument_no_log_and_no_file(server: Cluster) -> None:
    run_sql(server.address(), "SELECT 1")
    secret = server.password.encode()
    assert len(secret) > 20
    assert server.password not in repr(server)
    assert server.password not in repr(server.address())
    looked_at = 0
    for process in family(server):
        with contextlib.suppress(psutil.NoSuchProcess):  # the session's backend may just have ended
            said = [*process.cmdline(), *process.environ().values()]
            assert server.password not in " ".join(said)
            looked_at += 1
    assert looked_at > 3
    server.stop()
    files = [path for path in server.folder.rglob("*") if path.is_file()]
    assert len(files) > 100
    assert [path for path in files if secret in path.read_bytes()] == []
    assert sorted(path.name for path in server.folder.iterdir()) == ["data", "log"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as somebody else")
def test_under_root_a_server_runs_as_an_unprivileged_user(server: Cluster) -> None:
    account = server_account()
    assert account is not None
    for process in family(server):
        assert process.uids() == (account.uid,) * 3
        assert process.gids() == (account.gid,) * 3
    groups = Path(f"/proc/{family(server)[0].pid}/status").read_text().split("Groups:")[1].splitlines()[0].split()
    assert groups == []
    environment = Path(f"/proc/{family(server)[0].pid}/environ").read_bytes().split(b"\0")
    assert f"HOME={server.folder}".encode() in environment


def test_a_folder_that_is_there_already_is_not_made_a_cluster(place: Path) -> None:
    (place / "cluster").mkdir()
    (place / "cluster" / "diary").touch()
    with pytest.raises(ClusterError, match="cannot be made: File exists"):
        make_cluster(place / "cluster", embedded_tools())
    assert [path.name for path in (place / "cluster").iterdir()] == ["diary"]


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("FATAL:  could not create shared memory segment: No space left on device", "`ipcs -m`"),
        ('FATAL:  could not resize shared memory segment "/PostgreSQL.1": No space left on device', "df /dev/shm"),
        ("FATAL:  could not create semaphores: No space left on device", "`ipcs -s`"),
        ('initdb: error: could not create directory "pg_wal": No space left on device', "free some space"),
        ("initdb: error: no", "raw/cluster-server.log of the bundle"),
    ],
)
def test_what_a_machine_has_no_more_of_is_told_by_a_hint_that_outlives_the_log(
    place: Path, said: str, hint: str
) -> None:
    broken = place / "bin"
    broken.mkdir()
    for name, text in {"pg_dump": "echo 'pg_dump (PostgreSQL) 18.1'", "initdb": f"echo '{said}'; exit 1"}.items():
        (broken / name).write_text(f"#!/bin/sh\n{text}\n")
        (broken / name).chmod(0o755)
    with pytest.raises(ClusterError, match="initdb ended with 1") as caught:
        make_cluster(place / "cluster", Tools.at(broken))
    assert hint in caught.value.hint
    assert ("its log is" in caught.value.hint) == (said == "initdb: error: no")


def test_a_failing_initdb_leaves_no_password_behind(place: Path) -> None:
    broken = place / "bin"
    broken.mkdir()
    for name, text in {
        "pg_dump": "echo 'pg_dump (PostgreSQL) 18.1'",
        "initdb": "echo 'initdb: error: no'; exit 7",
    }.items():
        (broken / name).write_text(f"#!/bin/sh\n{text}\n")
        (broken / name).chmod(0o755)
    with pytest.raises(ClusterError, match="initdb ended with 7: initdb: error: no"):
        make_cluster(place / "one", Tools.at(broken))
    (broken / "initdb").unlink()
    with pytest.raises(ToolError, match="initdb is missing"):
        make_cluster(place / "two", Tools.at(broken))
    assert not list(place.glob("*/password"))


def test_a_server_that_cannot_start_says_its_last_words(server: Cluster) -> None:
    server.stop()
    with pytest.raises(ClusterError, match=r"did not start: .*FATAL.*no_such_setting"):
        server.start({"no_such_setting": "1"})
    assert server.process is None
    server.start(QUICK)
    connect(server.address(), name="x", access=Access.READ_ONLY, limits=STAGING_LIMITS).close()


# --- a database on a server that is there already -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tools", "how", "provider", "locale"),
    [
        (None, "LOCALE 'C'", "c", ""),
        (None, "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'", "b", "C.UTF-8"),
        (DEBIAN, "LOCALE_PROVIDER icu ICU_LOCALE 'de-DE' LOCALE 'C.UTF-8'", "i", "de-DE"),
    ],
)
def test_a_database_on_a_given_server_has_the_locale_of_its_source(
    place: Path, tools: Path | None, how: str, provider: str, locale: str
) -> None:
    if tools is not None and not tools.exists():
        pytest.skip("Debian's PostgreSQL is not installed")
    cluster = make_cluster(place / "cluster", Tools.at(tools) if tools else embedded_tools())
    cluster.start(QUICK)
    try:
        run_sql(cluster.address(), f"CREATE DATABASE shop TEMPLATE template0 ENCODING 'UTF8' {how}")
        wanted = surroundings_of(cluster.address("shop"))
        assert (wanted.provider, wanted.locale) == (provider, locale)
        with connect(cluster.address(), name="test", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
            seen = describe(connection, cluster.address())
        source = seen.model_copy(update={"system_identifier": "1"})
        made = make_database(cluster.address(), "made", wanted, "test", source=source, seen=seen)
        assert surroundings_of(made) == wanted
    finally:
        cluster.destroy()


def surroundings_of(address: Address) -> Surroundings:
    with connect(address, name="test", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        return look_at_surroundings(connection)
