"""The WAL of the meantime: received while a base backup is taken, until the drill's snapshot lies in it.

Owns pg_receivewal. Guarantees that the source keeps what has not been received (see `drills.recovery.pages.slot`) and
no more than that, that no commit waits for this for longer than a second, and that what was received is complete from
the first segment to where it was stopped.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from drills.addresses import Address
from drills.errors import ToolError
from drills.places import server_account, server_tools
from drills.processes import has_ended, last_words, plain_environment, redact_log, spawn, stop_process
from drills.records import Verdict
from drills.recovery.base import Workspace
from drills.recovery.pages.slot import Slot
from drills.recovery.pages.standbys import judge_standbys
from drills.sessions import tool_environment
from drills.wal import PARTIAL, segment_number, show_lsn

_POLL = 0.01
_LOOK = 1.0
"""Seconds between two questions whether production's settings have changed."""
_START = 30.0
"""Seconds until the receiver is at work, and from the end of a backup until it has its first byte."""


class Receiver:
    """pg_receivewal at work, and somebody who looks after it all the time, whatever else the drill does meanwhile."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, log: Path, slot: Slot) -> None:
        self._process = process
        self.folder = folder
        self._log = log
        self._slot = slot
        self._ending = threading.Event()
        self._found: Exception | None = None
        self._watch = threading.Thread(target=self._look_after, name="receiver", daemon=True)

    @property
    def first(self) -> str:
        """Where the first segment begins that was received. A source that is idle writes none before the backup.

        Raises:
            ToolError: nothing comes.
        """
        self._wait_until(lambda: bool(self._starts()), "wrote nothing")
        return show_lsn(min(self._starts()))

    def must_run(self) -> None:
        """It has not ended, and nothing was found that is against it.

        Raises:
            ToolError: it has, or production came to wait for it.
        """
        self._refuse_end()

    def _look_after(self) -> None:
        """What has been received, the server need not keep any more; and no commit may wait for whoever receives."""
        while not self._ending.wait(_LOOK):
            try:
                self._refuse_waiting()
                if starts := self._starts():
                    self._slot.release(max(starts))
            except Exception as error:  # noqa: BLE001 - `must_run` raises it; a thread's error reaches nobody
                self._found = error
                with suppress(ToolError):
                    self._slot.end_senders()  # at once: commits may hang
                stop_process(self._process)
                self._slot.close()
                return

    def wait(self) -> None:
        """Until the server sends: from then on nothing of its WAL is missed.

        Raises:
            ToolError: it ended, or does not get there.
        """
        self._wait_until(lambda: bool(self._starts()) or self._slot.sends(), "was sent nothing")
        self._watch.start()

    def _wait_until(self, there: Callable[[], bool], otherwise: str) -> None:
        started = time.monotonic()
        while not there():
            self._refuse_end()
            if time.monotonic() - started > _START:
                raise ToolError(
                    f"pg_receivewal {otherwise} within {_START:g} s",
                    hint="is the network, or the source, too busy for it? what it said is in raw/pg_receivewal.log",
                )
            time.sleep(_POLL)

    def _refuse_end(self) -> None:
        ended = has_ended(self._process, 0)
        if self._found is not None:
            raise self._found
        if ended:
            code = self._process.poll()
            raise ToolError(
                f"pg_receivewal ended with {code}: {last_words(redact_log(self._log, 0))}",
                hint="the role needs REPLICATION, pg_hba.conf a line for `replication`, max_wal_senders three to spare",
            )

    def _refuse_waiting(self) -> None:
        """Settings may be loaded anew at any time."""
        with self._slot.session() as session:
            found = judge_standbys(session, self._slot.receiver)
        if found.verdict is not Verdict.PASS:
            raise ToolError(f"production's commits would wait for the drill: {found.found}", hint=found.hint)

    def _starts(self) -> list[int]:
        """Where the segments begin that were received."""
        names = [path.name.removesuffix(PARTIAL) for path in self.folder.glob("0*")]
        size = self._slot.segment
        return [segment_number(name, size) * size for name in names if not name.endswith("history")]

    def leave(self) -> None:
        """Nobody looks after it any more, and it ends."""
        self._ending.set()
        if self._watch.is_alive():
            self._watch.join(_START)
        stop_process(self._process)

    def stop(self) -> None:
        """Nothing more is received or kept. The last segment is as long as the others, with nothing at its end."""
        self.leave()
        self._slot.close()
        for part in self.folder.glob(f"*{PARTIAL}"):
            part.rename(part.with_suffix(""))


@contextmanager
def receiving(address: Address, folder: Path, workspace: Workspace) -> Iterator[Receiver]:
    """Write down the WAL of this server from the segment that it is at, for as long as this lasts.

    Raises:
        ToolError: nothing comes.
        ConnectError: nobody can log in to the database of this address.
    """
    account, log = server_account(), workspace.logs / "pg_receivewal.log"
    folder.mkdir(mode=0o700)
    if account is not None:
        os.chown(folder, account.uid, account.gid)
    with closing(Slot.keeping(address, workspace.name)) as slot:
        process = spawn(
            [
                server_tools(workspace.tools).program("pg_receivewal"),
                f"--directory={folder}",
                "--no-loop",
                "--no-password",
                "--no-sync",
                "--status-interval=1",
            ],
            environment=plain_environment(tool_environment(address, workspace.name), account),
            log=log,
            account=account,
        )
        receiver = Receiver(process, folder, log, slot)
        try:
            receiver.wait()
            yield receiver
        finally:
            receiver.leave()
            redact_log(log, 0)
