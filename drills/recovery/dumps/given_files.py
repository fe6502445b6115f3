"""Finding a dump that somebody else made, on this machine or in S3, and what restoring it needs of it.

Guarantees that a dump on this machine is read where it lies and never written to, and that one from S3 is fetched once,
looked through on its way, and kept in the drill's workspace.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from drills.errors import NoBackupError, ToolError
from drills.plans.given import GivenDump
from drills.recovery.aws.client import Aws
from drills.recovery.base import Workspace
from drills.recovery.dumps.dump import digest_folder
from drills.recovery.dumps.files import CHUNK, Form, Looked, Places, look_through
from drills.recovery.dumps.members import members_of
from drills.recovery.dumps.plain_sql import PlainSql
from drills.recovery.dumps.plain_statements import refuse_old_psql
from drills.recovery.dumps.s3 import Bucket, Stored
from drills.units import show_duration


@dataclass(frozen=True)
class Found:
    """A dump, looked through."""

    looked: Looked
    place: Path
    """What is restored from."""
    shown: str
    label: str
    modified: datetime
    files: int
    details: dict[str, str]


class Search:
    """For the dump that a plan names."""

    def __init__(self, plan: GivenDump, workspace: Workspace) -> None:
        self._plan, self._workspace = plan, workspace

    def find(self) -> Found:
        """The dump, looked through to its end.

        Raises:
            NoBackupError: there is none.
            ToolError: it cannot be read, is not the plan's, or none that may be restored.
        """
        return self._from_s3() if self._plan.path.startswith("s3://") else self._from_here()

    def _from_here(self) -> Found:
        place = Path(self._plan.path)
        try:
            if place.is_dir():
                return self._folder(place, self._plan.path)
            with place.open("rb") as file:
                looked = self._look(file, Places(None, self._workspace.backup / "unpacked"))
            modified = datetime.fromtimestamp(place.stat().st_mtime, UTC)
        except FileNotFoundError:
            if place.exists():
                raise ToolError(f"files of the dump {place} went away while it was read", hint="run it again") from None
            if not os.access(place.parent, os.R_OK | os.X_OK):  # a disk that is not mounted is no missing backup
                raise ToolError(f"the folder of {place} cannot be read", hint="check recovery.path") from None
            raise NoBackupError(
                f"there is no dump {place}",
                hint="check recovery.path, whether its disk is mounted, and whether dumps are made",
            ) from None
        except OSError as error:
            raise ToolError(f"the dump {place} cannot be read: {error.strerror}", hint="check recovery.path") from None
        used = self._workspace.backup / "unpacked" if looked.zipped and looked.form is not Form.PLAIN else place
        return Found(looked, used, str(place), place.name, modified, 1, {})

    def _from_s3(self) -> Found:
        aws = Aws(self._workspace.name.rpartition("/")[2], self._workspace.logs / "aws.jsonl")
        found = self._from_bucket(Bucket(self._plan.path, aws))
        aws.refuse_gaps()
        return found

    def _from_bucket(self, bucket: Bucket) -> Found:
        objects = bucket.choose(newest=self._plan.newest)
        first = objects[0]
        if len(objects) > 1 or first.key.endswith("/toc.dat"):
            return self._folder_from_s3(bucket, objects)
        place = self._workspace.backup / "stored"
        with bucket.reading(first) as body:
            looked = self._look(body, Places(place, self._workspace.backup / "unpacked"), first.size)
        if looked.size != first.size:
            raise ToolError(
                f"S3 gave {looked.size:,} bytes of {first.url}: expected {first.size:,}", hint="run the drill again"
            )
        used = self._workspace.backup / "unpacked" if looked.zipped and looked.form is not Form.PLAIN else place
        return Found(looked, used, first.url, first.key, first.modified, 1, _details(first))

    def _folder_from_s3(self, bucket: Bucket, objects: list[Stored]) -> Found:
        folder, done = self._workspace.backup / "folder", 0
        folder.mkdir()
        prefix = objects[0].key.rpartition("/")[0]
        for each in objects:
            name = each.key.removeprefix(prefix).removeprefix("/")
            if "/" in name or name in {"", ".", ".."}:
                raise ToolError(
                    f"s3://{each.bucket}/{prefix}/ is no directory dump: it holds {name}",
                    hint="let recovery.path name the dump's own prefix, with nothing else below it",
                )
            with bucket.reading(each) as body, (folder / name).open("wb") as file:
                while data := body.read(CHUNK):
                    file.write(data)
                    done += len(data)
                    self._workspace.progress(done, sum(one.size for one in objects), "bytes")
            if (folder / name).stat().st_size != each.size:
                raise ToolError(
                    f"S3 did not give all of {each.url}: expected {each.size:,} bytes", hint="run the drill again"
                )
        (self._workspace.logs / "objects.txt").write_text(
            "".join(f"{each.url} ETag {each.etag} {each.size} bytes\n" for each in objects)
        )
        shown = f"s3://{objects[0].bucket}/{prefix}/"
        newest = max(objects, key=lambda each: each.modified)
        found = self._folder(folder, shown)
        return replace(found, modified=newest.modified, details={"objects": "raw/objects.txt"})

    def _look(self, file: IO[bytes], places: Places, total: int | None = None) -> Looked:
        plain = PlainSql(connect=lambda line: line)
        looked = look_through(file, places, plain, self._teller(total), self._plan.sha256)
        if looked.form is Form.PLAIN:
            refuse_old_psql(self._workspace.tools)
        return looked

    def _teller(self, total: int | None) -> Callable[[int], None]:
        """Is told how far reading is, and ends it when its time is over."""
        until = time.monotonic() + self._plan.backup_timeout.total_seconds()

        def tell(size: int) -> None:
            self._workspace.progress(size, total, "bytes")
            if time.monotonic() > until:
                raise ToolError(
                    f"the dump was not read after {show_duration(self._plan.backup_timeout)}",
                    hint="raise backup_timeout",
                )

        return tell

    def _folder(self, folder: Path, shown: str) -> Found:
        if not (folder / "toc.dat").is_file():
            raise ToolError(f"{shown} is no directory dump: there is no toc.dat in it", hint="check recovery.path")
        size, files, digest = digest_folder(folder)
        wish = self._plan.sha256
        if wish is not None and digest != wish:
            raise ToolError(
                f"the dump is not the one that the plan names: expected SHA-256 {wish}, got {digest}",
                hint="nothing was restored; find out who changed it, or mend sha256 in the plan",
            )
        members = tuple(members_of(folder, self._teller(size)))
        looked = Looked(Form.DIRECTORY, zipped=False, size=size, digest=digest, inner=digest, members=members)
        modified = datetime.fromtimestamp(max(path.stat().st_mtime for path in folder.iterdir()), UTC)
        return Found(looked, folder, shown, Path(shown).name, modified, files, {})


def _details(stored: Stored) -> dict[str, str]:
    return {
        "version id": stored.version or "none: the bucket keeps no versions",
        "etag": stored.etag,
        "last modified": stored.modified.astimezone(UTC).isoformat(),
    }


def place_of(plan: GivenDump, workspace: Workspace) -> Path | None:
    """The archive that `pick` left; None for a plain dump."""
    for name in ("folder", "unpacked", "stored"):
        if (workspace.backup / name).exists():
            place = workspace.backup / name
            break
    else:
        place = Path(plan.path)
    if place.is_dir():
        return place
    with place.open("rb") as file:
        head = file.read(5)
        file.seek(257)
        return place if head == b"PGDMP" or file.read(5) == b"ustar" else None
