"""A data directory as a base backup laid it out: looked at before it is touched, and rid of production's settings.

Refuses a directory that a server runs in, whose files lie somewhere else, or that is no base backup. Guarantees that
nothing in it that production configured is read when a server starts there: files of settings are moved away, slots are
removed, and what a server of the same data cannot do without is taken from its control file.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from drills.errors import ClusterError
from drills.places import Account
from drills.processes import last_words, run_tool
from drills.remains import processes_using
from drills.tools import Tools

_PATIENCE = 60.0
_MOVED = (
    "postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf", "recovery.conf", "recovery.done",
    "recovery.signal", "standby.signal", "postmaster.opts", "postmaster.pid", "current_logfiles",
)  # fmt: skip
"""Production's settings, and what its server or a tool that restores left for a server to find."""
_ROOM = {"max_connections": 100, "max_worker_processes": 8, "max_prepared_transactions": 16}
"""No less than this: PostgreSQL's own defaults, and some for transactions prepared after production allowed more."""
_FROM_CONTROL = {
    "max_connections setting": "max_connections",
    "max_worker_processes setting": "max_worker_processes",
    "max_prepared_xacts setting": "max_prepared_transactions",
    "max_locks_per_xact setting": "max_locks_per_transaction",
    "track_commit_timestamp setting": "track_commit_timestamp",
}
"""As pg_controldata calls it, and as the server does. Without the last one, commit timestamps would be thrown away."""
_ORIGINS = "1000"
"""How far changes of other servers were taken over is kept in as many places as production allowed. How many that is,
the control file does not say, and too few end the recovery; they cost next to nothing."""
_ORIGINS_APART = 18
"""Since then they are not counted by max_replication_slots."""
_CLOSED, _OPEN = 0o500, 0o700
_MAP_LINE = re.compile(r"(?P<oid>\d+) (?P<path>.*)", re.DOTALL)


@dataclass(frozen=True)
class LaidOut:
    """The folder that holds `data/`, the tools for it, and whom its files belong to."""

    folder: Path
    tools: Tools
    account: Account | None

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    def control(self) -> dict[str, str]:
        """What pg_controldata says, by its own names.

        Raises:
            ClusterError: it cannot be read.
        """
        log = self.folder / "tools.log"
        done = run_tool(
            [self.tools.program("pg_controldata"), "-D", str(self.data)],
            environment={},
            log=log,
            deadline=_PATIENCE,
            account=self.account,
        )
        if done.code or "WARNING" in done.said:
            raise ClusterError(
                f"the control file in {self.data} cannot be read: {last_words(done.said)}",
                hint="the backup is damaged, or of another version than the tools",
            )
        pairs = (line.split(":", 1) for line in done.said.splitlines() if ":" in line)
        return {name.strip(): value.strip() for name, value in pairs}

    def write(self, name: str, text: str) -> None:
        """A file of the data directory, for its server alone to read."""
        path = self.data / name
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text(text)
        self.own(path)

    def own(self, path: Path) -> None:
        """Give it to the server's account."""
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid, follow_symlinks=False)


def refuse_unfit(laid: LaidOut) -> dict[str, str]:
    """Every reason not to touch this directory, looked for before anything is changed; gives its control data.

    Raises:
        ClusterError: there is one.
    """
    data = laid.data
    if data.is_symlink() or not (data / "PG_VERSION").is_file():
        raise ClusterError(f"{data} is not a data directory", hint="the backup was not laid out, or not whole")
    users = processes_using(laid.folder)
    if users:
        raise ClusterError(
            f"a server or a tool runs in {laid.folder}: {users[0].name()}, process {users[0].pid}",
            hint="a copy is made of files that nobody else uses; is this production's own directory?",
        )
    version = (data / "PG_VERSION").read_text().strip()
    if version != str(laid.tools.major):
        raise ClusterError(
            f"the backup is of another version than the tools: expected {laid.tools.major}, got {version}",
            hint="set `tools:` in the plan to a folder of the backup's version",
        )
    _refuse_files_elsewhere(laid)
    control = laid.control()
    state = control.get("Database cluster state", "")
    if not (data / "backup_label").exists() and not state.startswith("shut down"):
        raise ClusterError(
            f"{data} has no backup_label, and was copied from a server that was {state}",
            hint="files copied from a running server without one are torn; take the backup with a tool that writes it",
        )
    return control


def _refuse_files_elsewhere(laid: LaidOut) -> None:
    """A link that leads out of the folder may lead to production's own files, and recovery writes to them.

    So may a line of tablespace_map: the server makes links of it when it starts.
    """
    inside = laid.folder.resolve()
    places = [(str(link), link.resolve()) for link in _links(laid.data) if link.name not in _MOVED]
    places += [(f"tablespace_map: {path}", path.resolve()) for _, path in _mapped(laid.data / "tablespace_map")]
    elsewhere = [f"{name} leads to {place}" for name, place in places if not place.is_relative_to(inside)]
    if elsewhere:
        raise ClusterError(
            f"files of the copy lie outside of {laid.folder}: {elsewhere[0]}",
            hint="map each tablespace and the WAL into the copy's folder; what is there may be production's",
        )


def _links(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                yield Path(entry.path)
            elif entry.is_dir(follow_symlinks=False):
                yield from _links(Path(entry.path))


def _mapped(file: Path) -> Iterator[tuple[str, Path]]:
    """Number and place of each tablespace, as the backup was told them."""
    if file.exists():
        # A backslash stands before a line's end, or a backslash, inside of a path.
        for line in re.split(r"(?<!\\)\n", file.read_text(errors="surrogateescape")):
            found = _MAP_LINE.fullmatch(line)
            if found:
                yield found["oid"], Path(re.sub(r"\\(.)", r"\1", found["path"], flags=re.DOTALL))


def move_settings_away(laid: LaidOut, superuser: str) -> None:
    """Production's settings to `production/` beside the data, in their stead none, and nobody but ours may connect."""
    kept = laid.folder / "production"
    kept.mkdir(mode=0o700, exist_ok=True)
    laid.own(kept)
    for name in _MOVED:
        with contextlib.suppress(FileNotFoundError):
            (laid.data / name).rename(kept / name)
    slots = laid.data / "pg_replslot"
    for slot in slots.iterdir() if slots.is_dir() else ():
        shutil.rmtree(slot)
    for name in ("postgresql.conf", "postgresql.auto.conf", "pg_ident.conf"):
        laid.write(name, "# A copy takes its settings from the command line alone.\n")
    laid.write("pg_hba.conf", f"host all {superuser} 127.0.0.1/32 scram-sha-256\n")


def close_tablespaces(laid: LaidOut) -> None:
    """From here on the server can make no link to a tablespace; those of the backup's map are made here.

    A tablespace that production made after the backup is made anew while its WAL is replayed, at production's own path.
    On production's machine the copy would from then on write to production's files.
    """
    links, written = laid.data / "pg_tblspc", laid.data / "tablespace_map"
    for oid, path in _mapped(written):
        link = links / oid
        link.unlink(missing_ok=True)
        link.symlink_to(path)
        laid.own(link)
    if written.exists():
        written.rename(laid.folder / "production" / written.name)
    links.chmod(_CLOSED)


def open_tablespaces(laid: LaidOut) -> None:
    """After the recovery: as it was, with every link looked at once more.

    Raises:
        ClusterError: one leads out of the folder.
    """
    (laid.data / "pg_tblspc").chmod(_OPEN)
    _refuse_files_elsewhere(laid)


def settings_needed(control: Mapping[str, str], major: int) -> dict[str, str]:
    """What a server of this data has to be told so that it recovers and loses nothing.

    Raises:
        ClusterError: the control file does not say it.
    """
    missing = [name for name in _FROM_CONTROL if name not in control]
    if missing:
        raise ClusterError(f"pg_controldata did not say the {missing[0]}")
    needed = {setting: control[name] for name, setting in _FROM_CONTROL.items()}
    needed |= {name: str(max(least, int(needed[name]))) for name, least in _ROOM.items()}
    needed["max_replication_slots"] = _ORIGINS
    if major >= _ORIGINS_APART:
        needed["max_active_replication_origins"] = _ORIGINS
    return needed
