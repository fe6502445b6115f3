"""Children with a pipe end in time, whatever they wait for, and take nothing for the whole that is not."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from fix_postgres import Database, run_sql
from test_processes import is_gone, script

from drills.addresses import Address
from drills.clusters import Cluster
from drills.errors import ToolError
from drills.plans.given import GivenDump
from drills.records import Backup
from drills.recovery.base import Workspace
from drills.recovery.dumps.feeding import feed_tool
from drills.recovery.dumps.given_load import Loading
from drills.recovery.dumps.plain_sql import PlainSql
from drills.secrets import VAULT
from drills.tools import embedded_tools
from drills.watched import watched


def test_a_child_that_ends_by_itself_gives_its_code_its_output_and_what_it_said(tmp_path: Path) -> None:
    VAULT.know("watched-secret-1")
    log = tmp_path / "log"
    log.write_text("before\n")
    told = script(tmp_path, 'read line; echo "got $line"; echo "it is watched-secret-1" >&2; exit 3')
    with watched([told], log=log, deadline=60, output=subprocess.PIPE, feed=subprocess.PIPE) as child:
        child.input.write(b"this\n")
        child.input.close()
        assert child.output.read() == b"got this\n"
        assert child.end(10) == 3
        assert child.said() == "it is [secret]\n"
    assert log.read_text() == "before\nit is [secret]\n"


def test_one_that_is_let_go_is_stopped_before_its_input_ends_and_its_log_is_redacted(tmp_path: Path) -> None:
    VAULT.know("watched-secret-2")
    whole, log = tmp_path / "whole", tmp_path / "log"
    # Which goes on when it is asked to end, as a program may that is busy.
    told = script(tmp_path, f'trap "" TERM; echo "it is watched-secret-2" >&2; echo ready; cat; touch {whole}')
    with watched([told], log=log, deadline=60, output=subprocess.PIPE, feed=subprocess.PIPE) as child:
        assert child.output.readline() == b"ready\n"
        child.input.write(b"half")
    assert is_gone(child.process.pid)
    assert not child.late
    assert not whole.exists()
    assert log.read_text() == "it is [secret]\n"


def test_one_that_closes_its_output_and_does_not_end_is_an_error(tmp_path: Path) -> None:
    told = script(tmp_path, "exec >&-; exec sleep 600")
    with watched([told], log=tmp_path / "log", deadline=60, output=subprocess.PIPE) as child:
        assert child.output.read() == b""
        with pytest.raises(ToolError, match=r"tool closed its pipe and did not end within 0\.1 s"):
            child.end(0.1)
    assert is_gone(child.process.pid)


def test_one_that_does_not_read_is_stopped_at_its_deadline_while_it_is_written_to(tmp_path: Path) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(1 << 20)

    with pytest.raises(ToolError, match=r"sleep had not ended after 0\.5 s") as caught:
        feed_tool(["sleep", "600"], endless(), environment={}, log=tmp_path / "log", deadline=0.5)
    assert "restore_timeout" in caught.value.hint


class Wire:
    """A way to a server that can be cut: whoever comes is let in, and hears nothing any more."""

    def __init__(self, server: Address) -> None:
        self._server = (server.parts["host"], int(server.parts["port"]))
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        """One visitor; whoever knocks after that waits in the kernel's queue."""
        inside, _ = self._door.accept()
        outside = socket.create_connection(self._server)
        self._ends += [inside, outside]
        for one, other in ((inside, outside), (outside, inside)):
            threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    @staticmethod
    def _carry(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                other.sendall(data)

    def close(self) -> None:
        """All of it."""
        for one in (self._door, *self._ends):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@contextmanager
def wire_to(server: Address) -> Iterator[Wire]:
    made = Wire(server)
    try:
        yield made
    finally:
        made.close()


def test_pg_dump_is_stopped_in_time_though_production_cannot_be_reached_to_cancel(
    production: Cluster, shop: Database, tmp_path: Path
) -> None:
    waiting = f"SELECT 1 FROM pg_stat_activity WHERE datname = '{shop.name}' AND wait_event_type = 'Lock'"
    with (
        psycopg.connect(**shop.owner.parts, password=shop.owner.password) as holder,  # type: ignore[arg-type]
        wire_to(production.address()) as wire,
    ):
        holder.execute("LOCK TABLE invoice")
        address = Address({**shop.owner.parts, "port": str(wire.port)}, shop.owner.password)
        arguments = [embedded_tools().program("pg_dump"), "--format=custom"]
        begun = time.monotonic()
        with watched(
            arguments, environment=address.environment(), log=tmp_path / "log", deadline=3, output=subprocess.PIPE
        ) as child:
            while not run_sql(shop.owner, waiting):
                assert time.monotonic() < begun + 60
                time.sleep(0.02)
            assert child.output.read(1) == b""
            with pytest.raises(ToolError, match="pg_dump had not ended after 3 s and was stopped"):
                child.end()
        assert time.monotonic() - begun < 30
        assert child.process.returncode == -9


def test_an_archive_that_pg_restore_hangs_on_is_given_up_in_time(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    os.mkfifo(archive)  # nobody ever writes to it
    wish = GivenDump.model_validate({"method": "dump_file", "path": str(archive), "restore_timeout": "500ms"})
    workspace = Workspace(archive, tmp_path, embedded_tools(), "drillbook/test", lambda *_told: None)
    backup = Backup(
        method="dump_file", path=str(archive), size=0, files=1, digest="", commands=(), seconds=0,
        details={"file": str(archive), "format": "custom", "database": ""},
    )  # fmt: skip
    loading = Loading(wish, "shop", backup, Address({}, ""), owned=True, workspace=workspace)
    look = PlainSql(connect=lambda line: line, on_role=lambda _name: None)
    with pytest.raises(ToolError, match=r"pg_restore had not ended after 0\.5 s and was stopped") as caught:
        loading._read_schema(look)
    assert "restore_timeout" in caught.value.hint
