"""Loading a dump that somebody else made: by pg_restore, or by psql from a stream that is looked at on its way.

Guarantees that what is loaded is what was picked, and that psql carries out no command of the dump's. On a server of
the drill's own, roles that the dump needs and the source no longer has are made, unable to log in, and the database
gets the source's name. A staging server that is somebody else's gets neither owners nor privileges.
"""

from __future__ import annotations

import gzip
import io
import re
import secrets
import subprocess
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

import psycopg
from psycopg import sql

from drills.addresses import Address
from drills.errors import ClusterError, ToolError
from drills.plans.given import GivenDump
from drills.processes import ToolRun, run_tool
from drills.records import Backup, Verdict
from drills.recovery.base import Restore, ToolLog, Workspace, judge_log
from drills.recovery.dumps.dump import NOT_OURS, digest_folder, restore_arguments
from drills.recovery.dumps.feeding import feed_tool
from drills.recovery.dumps.files import CHUNK, Form, Through, digest_file
from drills.recovery.dumps.plain_sql import PlainSql
from drills.recovery.dumps.plain_statements import refuse_old_psql
from drills.secrets import VAULT
from drills.sessions import STAGING_LIMITS, Access, session
from drills.staging import make_statement
from drills.watched import watched

_MAKES_NO_DATABASE = (
    "the dump does not make its database: owner, grants and settings of the database are not in it, nor in the copy"
)
_PLACE = re.compile(r"^psql:<stdin>:(\d+): (.*)$", re.MULTILINE)


@dataclass
class Loading:
    """One dump on its way into one server."""

    plan: GivenDump
    database: str
    """What the copy is called on a server of the drill's own."""
    backup: Backup
    target: Address
    owned: bool
    workspace: Workspace
    _made: list[str] = field(default_factory=list)
    """Roles that were missing."""

    @property
    def _file(self) -> Path:
        return Path(self.backup.details["file"])

    @property
    def _inside(self) -> str:
        """What the dump calls its database, where it says so."""
        return self.backup.details["database"]

    def archive(self) -> Restore:
        """By pg_restore: errors do not end it, and each is kept."""
        folder = self._file.is_dir()
        _refuse_another(self.backup, digest_folder(self._file)[2] if folder else digest_file(self._file))
        jobs = [] if self.backup.details["format"].startswith(Form.TAR) else [f"--jobs={self.plan.jobs}"]
        if self.owned:
            with self._roles() as make:
                self._read_schema(PlainSql(connect=lambda line: line, on_role=make))
            self._make_way()
        done = run_tool(
            [*restore_arguments(self.workspace, self.target, owned=self.owned), *jobs, str(self._file)],
            environment=self._environment(),
            log=self._log("pg_restore"),
            deadline=self.plan.restore_timeout.total_seconds(),
            progress=lambda: self.workspace.progress(0, self.backup.size, "bytes"),
        )
        judged = judge_log("pg_restore", done.said, done.code, self.plan.accept_warnings, self._log("pg_restore"))
        return self._finish(done, judged)

    def plain(self) -> Restore:
        """By psql, to the first error: after a failed COPY it would take rows for statements."""
        refuse_old_psql(self.workspace.tools)
        if self._inside and not self.owned:
            raise ToolError(
                f"the dump makes the database {self._inside} itself, on a server that is not the drill's own",
                hint="give a dump made without --create, or let the drill make its own server",
            )
        target = self.target
        if self.owned:
            self._make_way()
            if not self._inside:
                target = self._new_database()
        with self._roles() as make:
            restricting = secrets.token_hex(16)
            look = PlainSql(
                connect=lambda line: _unrestricted(line, restricting),
                on_role=make if self.owned else lambda _name: None,
            )
            done = feed_tool(
                [
                    self.workspace.tools.program("psql"),
                    "--no-psqlrc",
                    "--no-password",
                    "--quiet",
                    "--set=ON_ERROR_STOP=1",
                    "--output=/dev/null",
                    f"--dbname={target.parts['dbname']}",
                ],
                self._pieces(look, restricting),
                environment=self._environment(),
                log=self._log("psql"),
                deadline=self.plan.restore_timeout.total_seconds(),
            )
        # What follows `psql:<stdin>:7:` is what the server said; how a line is judged depends on its beginning.
        said = _PLACE.sub(r"\2 (line \1)", done.said)
        judged = judge_log("psql", said, done.code, self.plan.accept_warnings, self._log("psql"))
        if judged.verdict is not Verdict.FAIL and (missing := look.missing()):
            reason = f"psql ended with {done.code}, but the dump is not whole: {missing}"
            judged = ToolLog("psql", Verdict.FAIL, reason, (missing,), judged.warnings, judged.log)
        return self._finish(done, judged)

    def _pieces(self, look: PlainSql, restricting: str) -> Iterator[bytes]:
        """What psql is given; nothing that was not picked is taken for the whole."""
        yield f"\\restrict {restricting}\n".encode()
        with self._file.open("rb") as file:
            raw = Through(file)
            stream = cast("IO[bytes]", io.BufferedReader(cast("io.RawIOBase", raw), CHUNK))
            zipped = self.backup.details["format"].endswith("gzip")
            try:
                unpacked = cast("IO[bytes]", gzip.GzipFile(fileobj=stream)) if zipped else stream
                while data := unpacked.read(CHUNK):
                    yield from look.feed(data)
                    self.workspace.progress(raw.size, self.backup.size, "bytes")
            except (EOFError, OSError, zlib.error) as error:
                raise ToolError(f"the dump cannot be read to its end: {error}") from None
            yield from look.finish()
            while stream.read(CHUNK):
                pass
        _refuse_another(self.backup, raw.digest, stored=True)

    def _read_schema(self, look: PlainSql) -> None:
        """Statements of an archive, for the roles in them. What is wrong with it, restoring it will say.

        Raises:
            ToolError: its time was over.
        """
        arguments = [
            self.workspace.tools.program("pg_restore"), "--create", "--schema-only", "--file=-", str(self._file),
        ]  # fmt: skip
        limit = self.plan.restore_timeout.total_seconds()
        with watched(arguments, log=self._log("pg_restore-schema"), deadline=limit, output=subprocess.PIPE) as reading:
            with suppress(ToolError):
                while data := reading.output.read(CHUNK):
                    for _ in look.feed(data):
                        pass
                for _ in look.finish():
                    pass
            if reading.late:
                reading.end(hint="raise restore_timeout in the plan")

    @contextmanager
    def _roles(self) -> Iterator[Callable[[str], None]]:
        """Makes a role that is missing, as `drills.staging.prepare_cluster` makes those of the source."""
        if not self.owned:
            yield lambda _name: None
            return
        with session(
            self.target, name=self.workspace.name, access=Access.READ_WRITE, limits=STAGING_LIMITS
        ) as connection:
            there = {row[0] for row in connection.execute("SELECT rolname::text FROM pg_roles").fetchall()}
            there |= {"public", "current_user", "session_user", "current_role"}

            def make(name: str) -> None:
                if name not in there:
                    connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(name)))
                    there.add(name)
                    self._made.append(name)

            yield make

    def _make_way(self) -> None:
        """A new cluster has a database called postgres; so may the dump."""
        if self._inside == "postgres":
            self._run(sql.SQL("DROP DATABASE IF EXISTS postgres"))

    def _new_database(self) -> Address:
        around = self.backup.surroundings
        if around is None:
            raise ClusterError("nobody says which encoding and locale the source's database has")
        major = self.workspace.tools.major
        if self.database == "postgres":
            self._run(sql.SQL("DROP DATABASE IF EXISTS postgres"))
        self._run(make_statement(self.database, around, major * 10000))
        return self.target.to(self.database)

    def _finish(self, done: ToolRun, judged: ToolLog) -> Restore:
        deviations = []
        if not self.owned:
            deviations.append(NOT_OURS)
        if self.owned and not self._inside:
            deviations.append(_MAKES_NO_DATABASE)
        if self._made:
            deviations.append(f"roles that the source no longer has were made for the dump: {', '.join(self._made)}")
        if self.owned and self._inside not in {"", self.database}:
            deviations.append(f"the dump calls its database {self._inside}; the copy is called {self.database}")
            rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
            try:
                if self.database == "postgres":
                    self._run(sql.SQL("DROP DATABASE IF EXISTS postgres"))
                self._run(rename.format(sql.Identifier(self._inside), sql.Identifier(self.database)))
            except ClusterError:
                if judged.verdict is not Verdict.FAIL:
                    raise
        return Restore((done.arguments,), done.seconds, tuple(deviations), judged, database=bool(self._inside))

    def _run(self, statement: sql.SQL | sql.Composed) -> None:
        try:
            with session(
                self.target, name=self.workspace.name, access=Access.READ_WRITE, limits=STAGING_LIMITS
            ) as connection:
                connection.execute(statement)
        except psycopg.Error as error:
            raise ClusterError(f"the copy's database could not be made: {VAULT.redact(str(error)).strip()}") from None

    def _environment(self) -> dict[str, str]:
        return {**self.target.environment(), "PGAPPNAME": self.workspace.name}

    def _log(self, tool: str) -> Path:
        return self.workspace.logs / f"{tool}.log"


def _unrestricted(line: bytes, token: str) -> bytes:
    """The way to another database, which psql goes only while it is not restricted."""
    return f"\\unrestrict {token}\n".encode() + line + f"\\restrict {token}\n".encode()


def _refuse_another(backup: Backup, digest: str, *, stored: bool = False) -> None:
    expected = backup.digest if stored else backup.details["inner sha256"]
    if digest != expected:
        raise ToolError(
            f"the dump was changed after it was picked: expected digest {expected}, got {digest}",
            hint="somebody or something writes to it, or a disk is failing",
        )
