"""One drill at a time: locks that the system lets go of when their holder dies.

Owns lock files and the way they are taken (flock(2)). Guarantees that a lock whose process is gone can be taken at
once, that two processes never hold the same one, and that a released lock leaves no file.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass
class Lock:
    """A held lock."""

    path: Path
    _descriptor: int

    @classmethod
    def take(cls, path: Path, holder: str) -> Self | None:
        """The lock at this path, or None when somebody else holds it. `holder` is written into it for people."""
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(descriptor)
                if isinstance(error, BlockingIOError):
                    return None
                raise
            # Between open and flock the former holder may have removed the file: then this lock is on nothing.
            if _same_file(descriptor, path):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, holder.encode())
                return cls(path, descriptor)
            os.close(descriptor)

    def release(self) -> None:
        """Let go, and take the file away. The order matters: whoever opened it before finds out by `_same_file`.

        A file that somebody else made in its place, after ours was removed by hand, is his.
        """
        if self._descriptor < 0:
            return
        try:
            if _same_file(self._descriptor, self.path):
                self.path.unlink(missing_ok=True)
        finally:
            os.close(self._descriptor)
            self._descriptor = -1


def holder(path: Path) -> str:
    """Who wrote himself into this lock; empty when nobody did."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
