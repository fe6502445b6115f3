"""Our methods, copying alone: the hands of a drill in the order of a drill, without its expectations and checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from bench.copying import DATABASE, Copying, Job, answers, content
from bench.lanes import BARMAN, BASEBACKUP, CUSTOM_FILE, DUMP, PGBACKREST, PLAIN_DUMP, PLAIN_FILE, STREAM
from bench.pair import LIMITS
from drills import plan
from drills.clusters import Cluster, make_cluster
from drills.errors import ToolError
from drills.records import Backup, Server, Surroundings, Verdict
from drills.recovery.base import ToolLog, Workspace
from drills.recovery.dumps.dump import Dump
from drills.recovery.dumps.given import GivenDump
from drills.recovery.dumps.stream import Stream
from drills.recovery.pages.adopt import adopt_cluster
from drills.recovery.pages.basebackup import BaseBackup
from drills.recovery.pages.receiving import receiving
from drills.recovery.pages.replay import copy_from_folder
from drills.recovery.repositories.existing import open_repository
from drills.sessions import Access, describe, session
from drills.snapshots import exported_snapshot
from drills.staging import look_at_surroundings, look_at_tablespaces, prepare_cluster, run_like_production, size_watch
from drills.targets import RecoveryTarget, TargetKind

_LOCK_WAIT = 30_000
_DEADLINE = 3600.0
_CONSISTENT = RecoveryTarget(kind=TargetKind.IMMEDIATE)


def dump(job: Job, done: Copying) -> None:
    """pg_dump inside an exported snapshot; a cluster of our own; pg_restore; then as production runs."""
    compression: Literal["gzip", "none"] = "none" if job.method == PLAIN_DUMP else "gzip"
    method = Dump(plan.Dump(method="dump", jobs=job.jobs, compression=compression), _LOCK_WAIT)
    workspace = _workspace(job, job.folder / "dump")
    with done.backing_up(), session(job.address, name="bench", access=Access.READ_ONLY, limits=LIMITS) as leader:
        server, around = describe(leader, job.address), look_at_surroundings(leader)
        with exported_snapshot(leader) as snapshot:
            taken = method.back_up(job.address, snapshot.name, workspace)
    _refuse(taken.log)
    _load(job, done, method, taken.backup, server, around)


def dump_file(job: Job, done: Copying) -> None:
    """A dump that is there is looked through to its end and digested; then as `dump`."""
    wish = plan.GivenDump.model_validate({"method": "dump_file", "jobs": job.jobs, **job.extra})
    method, workspace = GivenDump(wish, DATABASE), _workspace(job, job.folder / "dump")
    with done.backing_up():
        taken = method.pick(workspace)
        with session(job.address, name="bench", access=Access.READ_ONLY, limits=LIMITS) as leader:
            server, around = describe(leader, job.address), look_at_surroundings(leader)
    _refuse(taken.log)
    _load(job, done, method, taken.backup.model_copy(update={"surroundings": around}), server, around)


def _load(
    job: Job, done: Copying, method: Dump | GivenDump, backup: Backup, server: Server, around: Surroundings
) -> None:
    with done.restoring():
        cluster = make_cluster(job.folder / "copy", job.programs)
        target = prepare_cluster(cluster, server, around, "bench")
        with size_watch(target, DATABASE, "bench", lambda _size: None) as look:
            watched = _workspace(job, job.folder / "dump", lambda *_: look())
            restored = method.restore(backup, target, owned=True, workspace=watched)
        run_like_production(cluster, on_disk=False)
        answers(cluster.address(DATABASE))
    _refuse(restored.log)
    _finish(cluster, done, (*backup.commands, *restored.commands))


def stream(job: Job, done: Copying) -> None:
    """A cluster of our own; pg_dump inside an exported snapshot into pg_restore; then as production runs."""
    method, workspace = Stream(plan.Stream(method="stream", jobs=job.jobs), _LOCK_WAIT), _workspace(job, job.folder)
    with done.restoring(), session(job.address, name="bench", access=Access.READ_ONLY, limits=LIMITS) as leader:
        server, around = describe(leader, job.address), look_at_surroundings(leader)
        cluster = make_cluster(job.folder / "copy", job.programs)
        target = prepare_cluster(cluster, server, around, "bench")
        with method.loading(target, owned=True, workspace=workspace) as loading:
            with exported_snapshot(leader) as snapshot:
                taken = loading.take(job.address, snapshot.name, workspace.progress)
            restored = loading.finish()
        run_like_production(cluster, on_disk=False)
        answers(cluster.address(DATABASE))
    _refuse(taken.log)
    _refuse(restored.log)
    _finish(cluster, done, (*taken.backup.commands, *restored.commands))


def basebackup(job: Job, done: Copying) -> None:
    """pg_basebackup, verified, with the WAL of the meantime received; recovered to its end, in quarantine."""
    workspace, wal = _workspace(job, job.folder / "copy"), job.folder / "wal"
    with done.backing_up():
        with session(job.address, name="bench", access=Access.READ_ONLY, limits=LIMITS) as leader:
            spaces = look_at_tablespaces(leader)
        method = BaseBackup(plan.BaseBackup(method="basebackup", jobs=job.jobs), spaces)
        with receiving(job.address, wal, workspace) as receiver:
            taken = method.back_up(job.address, workspace)
            receiver.stop()
    _refuse(taken.log)
    with done.restoring():
        adopted = adopt_cluster(
            job.folder / "copy",
            job.programs,
            target=_CONSISTENT,
            restore_command=copy_from_folder(wal),
            progress=_quiet,
            deadline=_DEADLINE,
            database=DATABASE,
            on_disk=False,
        )
        answers(adopted.cluster.address(DATABASE))
    _finish(adopted.cluster, done, taken.backup.commands)


def repository(job: Job, done: Copying) -> None:
    """A backup that is there is picked, laid out, recovered to its end, in quarantine."""
    kinds: Mapping[str, type[plan.Pgbackrest | plan.Barman]] = {PGBACKREST: plan.Pgbackrest, BARMAN: plan.Barman}
    wish = kinds[job.method].model_validate({"method": job.method, "jobs": job.jobs, **job.extra})
    with session(job.address, name="bench", access=Access.READ_ONLY, limits=LIMITS) as leader:
        server = describe(leader, job.address)
    workspace = _workspace(job, job.folder / "copy")
    method = open_repository(wish, server, job.programs, job.folder / "repository", workspace.logs)
    with done.backing_up():
        backup = method.pick()
    with done.restoring():
        taken = method.lay_out(backup, job.folder / "copy" / "data", workspace)
        adopted = adopt_cluster(
            job.folder / "copy",
            job.programs,
            target=_CONSISTENT,
            restore_command=method.restore_command(),
            progress=_quiet,
            deadline=_DEADLINE,
            database=DATABASE,
            on_disk=False,
            environment=method.environment(),
        )
        answers(adopted.cluster.address(DATABASE))
    _refuse(taken.log)
    _finish(adopted.cluster, done, taken.backup.commands)


METHODS: Mapping[str, Callable[[Job, Copying], None]] = MappingProxyType(
    {
        DUMP: dump,
        PLAIN_DUMP: dump,
        CUSTOM_FILE: dump_file,
        PLAIN_FILE: dump_file,
        STREAM: stream,
        BASEBACKUP: basebackup,
        PGBACKREST: repository,
        BARMAN: repository,
    }
)


def _quiet(_done: int, _total: int | None, _unit: str) -> None:
    """Nobody looks."""


def _workspace(job: Job, backup: Path, progress: Callable[[int, int | None, str], None] | None = None) -> Workspace:
    logs = job.folder / "raw"
    logs.mkdir(exist_ok=True)
    return Workspace(backup, logs, job.programs, "bench", progress or partial(_quiet))


def _refuse(log: ToolLog) -> None:
    if log.verdict is not Verdict.PASS:
        raise ToolError(log.reason)


def _finish(cluster: Cluster, done: Copying, commands: tuple[tuple[str, ...], ...]) -> None:
    done.tables = content(cluster.address(DATABASE))
    done.commands = [list(command) for command in commands]
    cluster.destroy()
