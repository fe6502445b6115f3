"""The bare tools as somebody types them, and pgcopydb: no checks, no quarantine, no guard.

Every tool that the same method of ours runs is told the same: jobs, compression, no fsync for a copy that is thrown
away.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from types import MappingProxyType

from bench.copying import DATABASE, Copying, Job
from bench.hand import begin, both_passwords, restoring_into_new, start_and_look, url
from bench.lanes import (
    BARMAN,
    BASEBACKUP,
    CUSTOM_FILE,
    DUMP,
    PEER,
    PGBACKREST,
    PLAIN_DUMP,
    PLAIN_FILE,
    STREAM,
    VERIFIED,
)
from drills.places import server_tools
from drills.tools import find_program


def dump(job: Job, done: Copying) -> None:
    """pg_dump, unless there is a dump already; initdb, pg_ctl start, pg_restore."""
    hand = begin(job, done)
    place = job.extra.get("path", str(job.folder / "copy" / "dump"))
    if job.method != CUSTOM_FILE:
        compression = "none" if job.method == PLAIN_DUMP else "gzip:1"
        with done.backing_up():
            hand.run("pg_dump", "--format=directory", f"--jobs={job.jobs}", f"--compress={compression}",
                     f"--file={place}", address=job.address)  # fmt: skip
    with restoring_into_new(hand):
        hand.run("pg_restore", f"--jobs={job.jobs}", "--create", "--dbname=template1", place,
                 address=hand.copy.to("template1"))  # fmt: skip


def plain_file(job: Job, done: Copying) -> None:
    """initdb, pg_ctl start, createdb, gunzip of what is there into psql."""
    hand = begin(job, done)
    with restoring_into_new(hand):
        hand.run("createdb", DATABASE, address=hand.copy.to("template1"))
        loading = [server_tools(job.programs).program("psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
        unpacking = ["gunzip", "--stdout", job.extra["path"]]
        line = f"set -o pipefail; {shlex.join(unpacking)} | {shlex.join(loading)}"
        hand.run("/bin/bash", "-c", line, address=hand.copy)


def stream(job: Job, done: Copying) -> None:
    """initdb, pg_ctl start, pg_dump into pg_restore: there is no backup in between."""
    hand = begin(job, done)
    with restoring_into_new(hand):
        tools, into = server_tools(job.programs), hand.copy.to("template1")
        taking = [tools.program("pg_dump"), "--format=custom", "--compress=none", f"--dbname={url(job.address)}"]
        loading = [tools.program("pg_restore"), "--create", f"--dbname={url(into)}"]
        where = {"PGPASSFILE": str(both_passwords(hand))}
        hand.run("/bin/bash", "-c", f"set -o pipefail; {shlex.join(taking)} | {shlex.join(loading)}", extra=where)


def basebackup(job: Job, done: Copying) -> None:
    """pg_basebackup, perhaps pg_verifybackup, pg_ctl start."""
    hand = begin(job, done)
    with done.backing_up():
        hand.run("pg_basebackup", f"--pgdata={hand.data}", "--wal-method=stream", "--checkpoint=fast", "--no-sync",
                 address=job.address)  # fmt: skip
        if job.contender == VERIFIED:
            hand.run("pg_verifybackup", "--quiet", str(hand.data))
    start_and_look(hand)


def pgbackrest(job: Job, done: Copying) -> None:
    """Pgbackrest restore to the end of the newest backup, pg_ctl start."""
    hand = begin(job, done)
    with done.restoring():
        hand.run(find_program(PGBACKREST, PGBACKREST), "restore", "--no-config", f"--stanza={job.extra['stanza']}",
                 f"--repo1-path={job.extra['repo_path']}", f"--pg1-path={hand.data}", f"--process-max={job.jobs}",
                 "--type=immediate", "--target-action=promote", "--log-level-file=off", "--log-level-console=warn",
                 f"--lock-path={hand.data.parent}")  # fmt: skip
    start_and_look(hand)


def barman(job: Job, done: Copying) -> None:
    """Barman recover of the newest backup, perhaps pg_verifybackup, pg_ctl start."""
    hand = begin(job, done)
    with done.restoring():
        hand.run(find_program(BARMAN, BARMAN), f"--config={job.extra['config']}", "recover", f"--jobs={job.jobs}",
                 job.extra["server"], "latest", str(hand.data))  # fmt: skip
        if job.contender == VERIFIED:
            (manifest,) = hand.data.glob("backup_manifest.*")
            changed = (manifest.name, "postgresql.conf", "postgresql.conf.origin",
                       "postgresql.auto.conf.origin", ".barman-recover.info")  # fmt: skip
            hand.run("pg_verifybackup", "--quiet", "--no-parse-wal", f"--manifest-path={manifest}",
                     *(f"--ignore={name}" for name in changed), str(hand.data))  # fmt: skip
    start_and_look(hand)


def pgcopydb(job: Job, done: Copying) -> None:
    """initdb, pg_ctl start, createdb, pgcopydb clone: there is no backup in between."""
    hand = begin(job, done)
    with restoring_into_new(hand):
        hand.run("createdb", DATABASE, address=hand.copy.to("template1"))
        passwords = both_passwords(hand)
        told = ["clone", f"--source={url(job.address)}", f"--target={url(hand.copy)}", f"--table-jobs={job.jobs}",
                f"--index-jobs={job.jobs}", f"--dir={job.folder / 'copy' / 'pgcopydb'}"]  # fmt: skip
        tools = server_tools(job.programs).folder
        where = {"PATH": f"{tools}:{os.environ['PATH']}", "PGPASSFILE": str(passwords), "HOME": str(passwords.parent)}
        hand.run(job.extra["program"], *told, extra=where)


METHODS: Mapping[str, Callable[[Job, Copying], None]] = MappingProxyType(
    {
        DUMP: dump,
        PLAIN_DUMP: dump,
        CUSTOM_FILE: dump,
        PLAIN_FILE: plain_file,
        STREAM: stream,
        BASEBACKUP: basebackup,
        PGBACKREST: pgbackrest,
        BARMAN: barman,
        PEER: pgcopydb,
    }
)
