"""A lock is held by one process at a time, and by nobody once that process is gone."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from drills.locks import Lock, holder


def forked(path: Path, ready: int, *, hold: bool) -> int:
    """A process that takes the lock, says so, and keeps it until it is killed."""
    child = os.fork()
    if child:
        return child
    try:
        lock = Lock.take(path, f"pid {os.getpid()}")
        os.write(ready, b"held" if lock else b"free")
        if hold:
            signal.pause()
    finally:
        os._exit(0)


def test_a_second_holder_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "one.lock"
    first = Lock.take(path, "first")
    assert first is not None
    assert Lock.take(path, "second") is None
    assert holder(path) == "first"
    first.release()
    second = Lock.take(path, "second")
    assert second is not None
    assert holder(path) == "second"
    second.release()


def test_a_released_lock_leaves_no_file_and_may_be_released_twice(tmp_path: Path) -> None:
    path = tmp_path / "one.lock"
    lock = Lock.take(path, "first")
    assert lock is not None
    lock.release()
    assert not path.exists()
    next_one = Lock.take(path, "second")
    lock.release()
    assert path.exists()
    assert next_one is not None
    next_one.release()
    assert holder(path) == ""


def test_the_lock_of_a_killed_process_can_be_taken_at_once(tmp_path: Path) -> None:
    path = tmp_path / "one.lock"
    reading, writing = os.pipe()
    child = forked(path, writing, hold=True)
    assert os.read(reading, 4) == b"held"
    assert Lock.take(path, "too early") is None
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert holder(path) == f"pid {child}"
    lock = Lock.take(path, "me")
    assert lock is not None
    assert holder(path) == "me"
    lock.release()
    assert not path.exists()


def test_a_file_that_somebody_else_made_after_ours_was_removed_is_left_to_him(tmp_path: Path) -> None:
    path = tmp_path / "one.lock"
    ours = Lock.take(path, "ours")
    path.unlink()
    his = Lock.take(path, "his")
    assert ours is not None
    assert his is not None
    ours.release()
    assert holder(path) == "his"
    assert Lock.take(path, "third") is None
    his.release()


def test_a_folder_in_its_place_is_an_error_and_leaves_no_descriptor_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(IsADirectoryError):
        Lock.take(tmp_path, "me")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def hammer(path: Path, inside: Path, until: float) -> None:
    """Take and release as often as possible; `inside` exists only while somebody holds the lock."""
    code, taken = 1, 0
    try:
        while time.monotonic() < until:
            lock = Lock.take(path, "me")
            if lock is None:
                continue
            # Two holders at once: the second one's exclusive creation fails, and so does this process.
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
            inside.unlink()
            lock.release()
            taken += 1
        code = 0 if taken else 3
    finally:
        os._exit(code)


def test_processes_that_take_and_release_at_once_never_hold_it_together(tmp_path: Path) -> None:
    until = time.monotonic() + 2
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            hammer(tmp_path / "one.lock", tmp_path / "inside", until)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0, 0, 0, 0]
    assert list(tmp_path.iterdir()) == []
