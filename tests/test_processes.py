"""Children get no more than they need, say no secret, and leave nobody behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from fix_postgres import QUICK
from fix_repository import debian_tools

from drills.clusters import make_cluster
from drills.errors import ToolError
from drills.places import reachable, server_account
from drills.processes import ToolRun, has_ended, last_words, plain_environment, run_tool, spawn, stop_process
from drills.secrets import VAULT

PERSON = {
    "PGPASSWORD": "of-the-person",
    "PGSERVICE": "billing",
    "PGOPTIONS": "-c statement_timeout=0",
    "PGHOSTADDR": "10.0.0.1",
    "PGPASSFILE": "/home/person/.pgpass",
    "LANG": "de_DE.UTF-8",
    "LD_PRELOAD_OF_PERSON": "x",
}


ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as somebody else")


def wait_until(holds: Callable[[], object], seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def script(folder: Path, text: str) -> str:
    path = folder / "tool"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def said_pid(log: Path) -> int:
    wait_until(lambda: log.exists() and log.read_text().endswith("\n"))
    return int(log.read_text().split()[0])


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_no_variable_of_the_person_reaches_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PERSON.items():
        monkeypatch.setenv(name, value)
    done = run_tool(["/usr/bin/env"], environment={"PGPASSWORD": "of-the-drill"}, log=tmp_path / "log", deadline=10)
    told = dict(line.split("=", 1) for line in done.said.splitlines())
    assert {name for name in told if name.startswith("PG")} == {"PGPASSWORD", "PGTZ"}
    assert told["LC_ALL"] == "C"
    assert not told.keys() & {"LANG", "LD_PRELOAD_OF_PERSON"}
    assert not plain_environment().keys() & PERSON.keys()


@ROOT
def test_a_child_that_runs_as_somebody_else_has_the_home_and_the_groups_of_that_one(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = server_account()
    assert real is not None
    own, of_that_one = (
        run_tool(["/usr/bin/id", "-Gn", *name], environment={}, log=desk / "log", deadline=10, account=account).said
        for account, name in ((real, ()), (None, (real.name,)))
    )
    assert sorted(own.split()) == sorted(of_that_one.split())
    group = 54321
    (desk / "shared").mkdir(mode=0o750)
    (desk / "shared" / "key").write_text("read through a group\n")
    os.chown(desk / "shared", 0, group)
    command = ["/bin/sh", "-c", f"echo $HOME && cat {desk / 'shared' / 'key'}"]
    assert run_tool(command, environment={}, log=desk / "log", deadline=10, account=real).code != 0
    assert not reachable(desk / "shared")
    monkeypatch.setattr(os, "getgrouplist", lambda _name, gid: [gid, group])
    monkeypatch.setenv("HOME", "/root")
    account = server_account()
    done = run_tool(command, environment={}, log=desk / "log", deadline=10, account=account)
    assert done.said == f"{real.home}\nread through a group\n"
    assert reachable(desk / "shared")
    done = run_tool(["/usr/bin/env"], environment={"HOME": "/own"}, log=desk / "log", deadline=10, account=account)
    assert "HOME=/own" in done.said.splitlines()


@ROOT
def test_the_servers_account_makes_a_backup_over_tls_whatever_the_home_of_root_is(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the home that it is told of, libpq looks for a certificate, and ends where it may not look."""
    tools = debian_tools("openssl")
    cluster, account = make_cluster(desk / "cluster", tools), server_account()
    assert account is not None
    made = ["-keyout", str(cluster.data / "server.key"), "-out", str(cluster.data / "server.crt")]
    told = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", *made]
    run_tool(told, environment={}, log=desk / "raw" / "openssl.log", deadline=60, account=account)
    (desk / "closed").mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(desk / "closed"))
    try:
        cluster.start(QUICK | {"ssl": "on"})
        environment = cluster.address().environment() | {"PGSSLMODE": "require"}
        program, to = tools.program("pg_basebackup"), desk / "cluster" / "backup"

        def back_up(extra: dict[str, str]) -> ToolRun:
            return run_tool(
                [program, f"--pgdata={to}", "--checkpoint=fast", "--no-sync", "--no-password"],
                environment=environment | extra,
                log=desk / "raw" / "pg_basebackup.log",
                deadline=60,
                account=account,
            )

        assert "could not open certificate file" in back_up({"HOME": str(desk / "closed")}).said
        assert not to.exists()
        done = back_up({})
        assert (done.code, (to / "backup_manifest").exists()) == (0, True), done.said
    finally:
        cluster.destroy()


def test_a_secret_that_a_tool_says_is_masked_in_its_log_and_in_what_is_told(tmp_path: Path) -> None:
    VAULT.know("hunter-2-and-more")
    log = tmp_path / "log"
    log.write_text("what was said before\n")
    done = run_tool(
        [script(tmp_path, 'echo "it is $PGPASSWORD"; echo "$PGPASSWORD" >&2; exit 3')],
        environment={"PGPASSWORD": "hunter-2-and-more"},
        log=log,
        deadline=10,
    )
    assert (done.code, done.said) == (3, "it is [secret]\n[secret]\n")
    assert log.read_text() == f"what was said before\n{done.said}"


def test_what_a_tool_is_told_is_in_no_argument_and_no_file(tmp_path: Path) -> None:
    told = "one line\nand another\n"
    done = run_tool(["/bin/cat"], environment={}, log=tmp_path / "log", deadline=10, told=told)
    assert done.said == told
    assert done.arguments == ("/bin/cat",)
    assert run_tool(["/bin/cat"], environment={}, log=tmp_path / "log", deadline=10).said == ""


@pytest.mark.parametrize("ignores", ["", "trap '' TERM; "])
def test_a_deadline_ends_the_tool_and_all_that_it_started(
    tmp_path: Path, ignores: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drills.processes.stop_process", lambda process: stop_process(process, patience=0.3))
    log = tmp_path / "log"
    tool = script(tmp_path, f"{ignores}sleep 600 & echo $!; sleep 600")
    with pytest.raises(ToolError, match=r"tool had not ended after 0.3 s and was stopped"):
        run_tool([tool], environment={}, log=log, deadline=0.3)
    wait_until(lambda: is_gone(said_pid(log)))
    assert not [child for child in psutil.Process().children() if child.name() == "tool"]


def test_what_a_tool_leaves_running_when_it_ends_by_itself_is_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = run_tool([script(tmp_path, "sleep 600 & echo $!; exit 0")], environment={}, log=log, deadline=10)
    assert done.code == 0
    wait_until(lambda: is_gone(said_pid(log)))


def test_an_error_of_the_display_ends_the_tool(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def display() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_tool([script(tmp_path, "echo $$; exec sleep 600")], environment={}, log=log, deadline=60, progress=display)
    wait_until(lambda: is_gone(said_pid(log)))


def test_a_display_that_takes_its_time_is_asked_less_often(tmp_path: Path) -> None:
    asked = []

    def display() -> None:
        asked.append(time.monotonic())
        until = time.monotonic() + 0.02
        while time.monotonic() < until:
            pass

    run_tool(["sleep", "1.5"], environment={}, log=tmp_path / "log", deadline=60, progress=display)
    assert 1 <= len(asked) <= 4  # every 0.1 s it would be a dozen


def test_a_slow_display_does_not_put_the_deadline_off(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ToolError, match="had not ended after 1 s"):
        run_tool(["sleep", "600"], environment={}, log=tmp_path / "log", deadline=1, progress=lambda: time.sleep(0.5))
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("kernel_tells", [True, False])
def test_a_child_that_ends_is_noticed_and_not_reaped(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kernel_tells: bool,  # noqa: FBT001
) -> None:
    if not kernel_tells:

        def refuse(_pid: int) -> int:
            raise OSError(errno.ENOSYS, "no such system call")

        monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)
    process = spawn(["sleep", "0.3"], environment={}, log=tmp_path / "log")
    assert not has_ended(process, 0)
    assert not has_ended(process, 0.05)
    assert has_ended(process, 60)
    assert process.returncode is None
    stop_process(process)
    assert process.returncode == 0


def test_a_program_that_is_not_there_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="nothing could not be started: No such file"):
        run_tool([str(tmp_path / "nothing")], environment={}, log=tmp_path / "log", deadline=1)


def test_a_child_dies_when_this_program_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    parent = os.fork()
    if parent == 0:
        spawn(["/bin/sh", "-c", "echo $$; exec sleep 600"], environment={}, log=log, account=server_account())
        signal.pause()
    pid = said_pid(log)
    assert not is_gone(pid)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    wait_until(lambda: is_gone(pid))


def test_a_child_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    started, threads = [], []

    def start() -> None:
        threads.append(threading.get_native_id())
        started.append(spawn(["/bin/sleep", "600"], environment={}, log=tmp_path / "log"))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    process = started[0]
    wait_until(lambda: not Path(f"/proc/self/task/{threads[0]}").exists())
    # The kernel has signalled it by now, if it ever does.
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    stop_process(process)
    assert process.returncode == -signal.SIGTERM


def test_a_fork_can_start_children_from_its_threads_too(tmp_path: Path) -> None:
    test_a_child_outlives_the_thread_that_started_it(tmp_path)
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(20)
            test_a_child_outlives_the_thread_that_started_it(tmp_path)
        except BaseException:  # noqa: BLE001 - told by the exit code
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_stopping_twice_is_stopping_once(tmp_path: Path) -> None:
    process = spawn([sys.executable, "-c", "import time; time.sleep(600)"], environment={}, log=tmp_path / "log")
    stop_process(process)
    stop_process(process)
    assert is_gone(process.pid)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("", "it said nothing"),
        ("LOG: one\n\n", "LOG: one"),
        ("FATAL: two\nLOG: three\n", "FATAL: two"),
        ("pg_dump: error: four\nbye", "pg_dump: error: four"),
    ],
)
def test_last_words_are_the_last_error_or_else_the_last_line(said: str, expected: str) -> None:
    assert last_words(said) == expected
