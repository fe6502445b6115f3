"""Recovery by pg_basebackup: production's own pages, and behind them the WAL that pg_receivewal wrote down meanwhile.

Guarantees that every base backup was looked through by pg_verifybackup before anything is made of it; that the files
lie where the copy will run, so that nothing is copied twice; and that tablespaces, which pg_basebackup would put back
where production has them, come to lie in the drill's own folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drills import plan
from drills.addresses import Address
from drills.errors import ToolError
from drills.places import Account, server_account, server_tools
from drills.processes import ToolRun, run_tool
from drills.records import Backup
from drills.recovery.base import Taken, Workspace, failure_of, judge_log
from drills.recovery.pages.manifest import MANIFEST, read_history
from drills.sessions import tool_environment

_INCREMENTAL_SINCE = 17
_KILOBYTE = 1024


@dataclass(frozen=True)
class BaseBackup:
    """pg_basebackup as the plan wants it. The backup's folder is that of the cluster that will be made of it."""

    plan: plan.BaseBackup
    spaces: Mapping[str, str]
    """Tablespaces of the source: where they lie, by their oid."""
    look_again: Callable[[], Mapping[str, str]] | None = None
    """Gives them as they are now. One that is not mapped would be written where production has it."""

    def back_up(self, address: Address, workspace: Workspace) -> Taken:
        """Take a full backup, and as many incremental ones on top as the plan says.

        Raises:
            ToolError: it could not be taken, or is not whole.
        """
        begun, account = time.monotonic(), server_account()
        if self.plan.incrementals and workspace.tools.major < _INCREMENTAL_SINCE:
            raise ToolError(
                f"expected PostgreSQL {_INCREMENTAL_SINCE} for incremental backups, got {workspace.tools.version}",
                hint="set recovery.incrementals to 0",
            )
        _make_folder(workspace.backup, account)
        chain = [workspace.backup / f"link-{number}" for number in range(self.plan.incrementals)]
        data, runs = workspace.backup / "data", []
        for number, folder in enumerate([*chain, data]):
            if self.look_again is not None and self.look_again() != self.spaces:
                raise ToolError("a tablespace was made or dropped since the drill began", hint="run the drill again")
            last = folder == data
            runs.append(self._take(address, folder, (chain[number - 1] if number else None), workspace, account, last))
            if chain:
                runs.append(self._verify(folder, workspace, account))
        if chain:
            runs += self._combine([*chain, data], workspace, account)
        runs.append(self._verify(data, workspace, account))
        manifest = data / MANIFEST
        history = read_history(manifest)
        said = "\n".join(run.said for run in runs)
        log = judge_log("pg_basebackup", said, 0, self.plan.accept_warnings, workspace.logs / "pg_basebackup.log")
        backup = Backup(
            method="basebackup",
            path=str(data),
            size=history.size,
            files=history.files,
            digest=hashlib.sha256(manifest.read_bytes()).hexdigest(),
            commands=tuple(run.arguments for run in runs),
            seconds=round(time.monotonic() - begun, 6),
            start_lsn=history.start,
            stop_lsn=history.end,
            timeline=history.timeline,
        )
        return Taken(backup, log)

    def _take(
        self,
        address: Address,
        folder: Path,
        before: Path | None,
        workspace: Workspace,
        account: Account | None,
        last: bool,  # noqa: FBT001 - whether the tablespaces are those of the copy
    ) -> ToolRun:
        spaces = workspace.backup / ("tablespaces" if last and not self.plan.incrementals else f"{folder.name}-spaces")
        arguments = [
            server_tools(workspace.tools).program("pg_basebackup"),
            f"--pgdata={folder}",
            "--format=plain",
            "--wal-method=stream",  # without, the source would wait until its archive has all of it
            f"--checkpoint={self.plan.checkpoint}",
            f"--label={workspace.name}",
            "--no-password",
            "--no-sync",  # a copy that is thrown away
            *_mapped(self.spaces, spaces, account),
        ]
        if self.plan.max_rate is not None:
            arguments.append(f"--max-rate={max(self.plan.max_rate // _KILOBYTE, 32)}k")
        if before is not None:
            arguments.append(f"--incremental={before / MANIFEST}")
        return self._run(arguments, tool_environment(address, workspace.name), workspace, account, folder)

    def _verify(self, folder: Path, workspace: Workspace, account: Account | None) -> ToolRun:
        """Every file against the manifest, and the WAL that makes it whole."""
        arguments = [server_tools(workspace.tools).program("pg_verifybackup"), "--quiet", str(folder)]
        return self._run(arguments, {}, workspace, account, None, "set the backup aside and look at the source's disks")

    def _combine(self, chain: Sequence[Path], workspace: Workspace, account: Account | None) -> list[ToolRun]:
        """A chain put together where its last link lies."""
        whole, last = workspace.backup / "whole", workspace.backup / f"{chain[-1].name}-spaces"
        spaces = [f"--tablespace-mapping={last / oid}={_made(workspace, oid, account)}" for oid in self.spaces]
        tool = server_tools(workspace.tools).program("pg_combinebackup")
        arguments = [tool, "--no-sync", *spaces, f"--output={whole}", *map(str, chain)]
        done = self._run(arguments, {}, workspace, account, whole)
        for link in [*chain, *workspace.backup.glob("*-spaces")]:
            shutil.rmtree(link)
        whole.rename(chain[-1])
        return [done]

    def _run(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        workspace: Workspace,
        account: Account | None,
        growing: Path | None,
        hint: str = "",
    ) -> ToolRun:
        tool = Path(arguments[0]).name
        done = run_tool(
            arguments,
            environment=environment,
            log=workspace.logs / f"{tool}.log",
            deadline=self.plan.backup_timeout.total_seconds(),
            account=account,
            progress=(lambda: workspace.progress(_size(growing), None, "bytes")) if growing is not None else None,
        )
        log = judge_log(tool, done.said, done.code, self.plan.accept_warnings, workspace.logs / f"{tool}.log")
        if done.code:
            raise failure_of(done, log, hint)
        return done


def _make_folder(folder: Path, account: Account | None) -> None:
    try:
        folder.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise ToolError(f"the folder {folder} cannot be made: {error.strerror}") from None
    if account is not None:
        os.chown(folder, account.uid, account.gid)


def _mapped(spaces: Mapping[str, str], folder: Path, account: Account | None) -> list[str]:
    """Options that put each tablespace into a folder of the drill's; pg_basebackup wants equals signs escaped."""
    if not spaces:
        return []
    _make_folder(folder, account)
    return [
        f"--tablespace-mapping={place.replace('=', chr(92) + '=')}={str(folder / oid).replace('=', chr(92) + '=')}"
        for oid, place in spaces.items()
    ]


def _made(workspace: Workspace, oid: str, account: Account | None) -> Path:
    folder = workspace.backup / "tablespaces"
    if not folder.exists():
        _make_folder(folder, account)
    return folder / oid


def _size(folder: Path) -> int:
    """Bytes so far. Only a display: what is renamed meanwhile is left out."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(path) / name).stat().st_size
            except OSError:
                continue
    return total
