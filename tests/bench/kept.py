"""Backups that are there before any clock runs, as somebody else has made them: dumps, and repositories.

Guarantees that each holds the rows that are copied, made by the tool's own commands, which stand in the document.
"""

from __future__ import annotations

import getpass
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from bench.children import ChildError
from bench.copying import DATABASE, STANZA
from bench.lanes import BARMAN, CUSTOM_FILE, PGBACKREST, PLAIN_FILE
from drills.clusters import Cluster
from drills.places import make_folder, server_account
from drills.processes import last_words, run_tool

_DEADLINE = 3600.0


@dataclass(frozen=True)
class Kept:
    """A backup, and how it came to be there."""

    words: dict[str, str]
    """How a plan calls it."""
    commands: Sequence[Sequence[str]]
    """They make it."""


def archiving(place: Path, methods: Sequence[str]) -> dict[str, str]:
    """What the server in `<place>/source` is told, so that its WAL gets into the repository of each, below `place`."""
    commands = []
    for method in methods:
        folder = make_folder(place / method)
        if method == PGBACKREST:
            told = [PGBACKREST, "archive-push", "%p", *_places(folder), f"--pg1-path={place / 'source' / 'data'}"]
        else:
            told = ["cp", "%p", f"{make_folder(make_folder(folder / STANZA) / 'incoming')}/%f"]
        commands.append(" ".join(told))
    return {"archive_mode": "on", "archive_command": " && ".join(commands), "max_wal_senders": "10"}


def keep(method: str, folder: Path, source: Cluster) -> Kept:
    """A backup of this server for one of the methods, in this folder.

    Raises:
        ChildError: it could not be made.
    """
    kept = _MAKERS[method](make_folder(folder), source)
    for command in kept.commands:
        done = run_tool(
            command,
            environment=source.address(DATABASE).environment() | {"HOME": str(folder)},
            log=folder / "making.log",
            deadline=_DEADLINE,
            account=server_account(),
        )
        if done.code:
            raise ChildError(f"{Path(command[0]).name} ended with {done.code}: {last_words(done.said)}")
    if "path" in kept.words:
        with Path(kept.words["path"]).open("rb") as file:
            kept.words["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return kept


def _custom_file(folder: Path, source: Cluster) -> Kept:
    return _dump(folder / "stock.dump", source, "--format=custom")


def _plain_file(folder: Path, source: Cluster) -> Kept:
    return _dump(folder / "stock.sql.gz", source, "--format=plain")


def _dump(file: Path, source: Cluster, form: str) -> Kept:
    made = [source.tools.program("pg_dump"), form, "--compress=gzip:1", f"--file={file}"]
    return Kept({"path": str(file)}, [made])


def _pgbackrest(folder: Path, source: Cluster) -> Kept:
    """One full backup."""
    told = [*_places(folder), f"--pg1-path={source.data}", f"--pg1-port={source.port}",
            f"--pg1-user={source.superuser}"]  # fmt: skip
    taking = ["--type=full", "--start-fast", "--process-max=2", "--repo1-retention-full=2", "--compress-level=1"]
    commands = [[PGBACKREST, "stanza-create", *told, "--no-online"], [PGBACKREST, "backup", *told, *taking]]
    return Kept({"stanza": STANZA, "repo_path": str(folder / "repository")}, commands)


def _places(folder: Path) -> list[str]:
    """Where it works."""
    places = {name: make_folder(folder / name) for name in ("repository", "lock", "log")}
    return ["--no-config", f"--stanza={STANZA}", f"--repo1-path={places['repository']}",
            f"--lock-path={places['lock']}", f"--log-path={places['log']}", "--log-level-file=off"]  # fmt: skip


def _barman(folder: Path, source: Cluster) -> Kept:
    """One backup, by pg_basebackup. Barman takes none before there is WAL, and what came in meanwhile is filed."""
    account, config = server_account(), folder / "barman.conf"
    reach = f"host=127.0.0.1 port={source.port} user={source.superuser}"
    sections = {
        "barman": {
            "barman_home": folder,
            "barman_user": account.name if account else getpass.getuser(),
            "barman_lock_directory": make_folder(folder / "lock"),
            "log_file": make_folder(folder / "log") / "barman.log",
        },
        STANZA: {
            "description": STANZA,
            "conninfo": f"{reach} dbname=postgres",
            "streaming_conninfo": reach,
            "backup_method": "postgres",
            "archiver": "on",
            "immediate_checkpoint": "true",
            "path_prefix": source.tools.folder,
        },
    }
    config.write_text(
        "".join(
            f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in section.items())
            for name, section in sections.items()
        )
    )
    told = [BARMAN, f"--config={config}"]
    steps = (["switch-wal", "--force", "--archive"], ["backup", "--wait"], ["archive-wal"])
    return Kept({"server": STANZA, "config": str(config)}, [[*told, *step, STANZA] for step in steps])


_MAKERS: Mapping[str, Callable[[Path, Cluster], Kept]] = MappingProxyType(
    {CUSTOM_FILE: _custom_file, PLAIN_FILE: _plain_file, PGBACKREST: _pgbackrest, BARMAN: _barman}
)
