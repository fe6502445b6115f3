"""One copying of a database, from its beginning to a copy that answers, in a process (`python -m bench.copying`).

Owns what ours and the bare tools have in common: the job, the answer, and how it is reckoned. Refuses to report a time
for a copy that does not hold what the source does: its tables are told with it, and compared by whoever asked.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path

import psutil

from bench.lanes import OURS, PEER
from bench.pair import LIMITS
from drills.addresses import Address
from drills.sessions import Access, session
from drills.tools import Tools

DATABASE = "stock"
STANZA = "bench"
_HANDS = {OURS: "bench.copying_ours"}
_BARE_HANDS = "bench.copying_by_hand"
_TABLES = """
SELECT relname::text, (SELECT count(*) FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid)
  FROM pg_class c WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1
"""


@dataclass(frozen=True)
class Job:
    """What a process is told."""

    method: str
    contender: str
    source: dict[str, str]
    tools: str
    """Folder of PostgreSQL's programs."""
    place: str
    """A folder for all that it makes, removed by whoever asked."""
    jobs: int = 2
    extra: dict[str, str] = field(default_factory=dict)
    """What a method needs besides: a program, or how a plan calls the backup that is there."""

    @property
    def folder(self) -> Path:
        """`place`."""
        return Path(self.place)

    @property
    def programs(self) -> Tools:
        """`tools`."""
        return Tools.at(Path(self.tools))

    @property
    def address(self) -> Address:
        """Of the source, with the password, which came by the environment."""
        return Address(self.source, os.environ["PGPASSWORD"])


@dataclass
class Copying:
    """What it answers. Filled in by the hands while they work."""

    backup: float = 0
    """Seconds until there is a backup."""
    restore: float = 0
    """Seconds from there until the copy answers."""
    read: int = 0
    """Bytes that its processes read, the server of the copy included."""
    written: int = 0
    memory: float = 0
    """MB that the process itself held at most; by hand, the largest of the tools."""
    tables: dict[str, list[str]] = field(default_factory=dict)
    commands: list[list[str]] = field(default_factory=list)
    """What was run."""

    @contextmanager
    def backing_up(self) -> Iterator[None]:
        """The clock of the backup."""
        begun = time.monotonic()
        yield
        self.backup = time.monotonic() - begun

    @contextmanager
    def restoring(self) -> Iterator[None]:
        """The clock of the restore, which may be in parts, and at its end the bytes of all so far."""
        begun = time.monotonic()
        yield
        self.restore += time.monotonic() - begun
        self.read, self.written = family_io(os.getpid())


def answers(copy: Address) -> None:
    """Somebody can log in and gets an answer."""
    with session(copy, name="bench", access=Access.READ_ONLY, limits=LIMITS) as connection:
        connection.execute("SELECT 1")


def content(database: Address) -> dict[str, list[str]]:
    """Of each table: rows, the sum of its amounts, and its indexes that can be used."""
    with session(database, name="bench", access=Access.READ_ONLY, limits=LIMITS) as connection:
        found = {}
        for name, indexes in connection.execute(_TABLES).fetchall():
            row = connection.execute(f"SELECT count(*), sum(amount) FROM {name}".encode()).fetchone() or ()
            found[name] = [*map(str, row), str(indexes)]
        return found


def family_io(pid: int) -> tuple[int, int]:
    """Bytes that a process and all below it have read and written by system calls so far (proc(5), rchar and wchar).

    Whether they came from a disk or out of the kernel's cache; what goes through sockets is not in it. The kernel adds
    what a process did to its parent's figures when it is reaped, so that nobody who has ended is missing.
    """
    members = [pid]
    with suppress(psutil.NoSuchProcess):
        members += [child.pid for child in psutil.Process(pid).children(recursive=True)]
    read = written = 0
    for member in members:
        with suppress(OSError):
            told = dict(line.split(": ") for line in Path(f"/proc/{member}/io").read_text().splitlines())
            read, written = read + int(told["rchar"]), written + int(told["wchar"])
    return read, written


def main() -> None:
    """The job comes in the first argument, the answer goes to the file in the second."""
    job = Job(**json.loads(sys.argv[1]))
    hands: Mapping[str, object] = vars(import_module(_HANDS.get(job.contender, _BARE_HANDS)))["METHODS"]
    done = Copying()
    work = hands[PEER if job.contender == PEER else job.method]
    assert callable(work)
    work(job, done)
    if job.contender == OURS:
        done.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    Path(sys.argv[2]).write_text(json.dumps(asdict(done)))


if __name__ == "__main__":
    main()
