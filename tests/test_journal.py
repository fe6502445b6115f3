"""The journal: what it guarantees when it is written, torn, reopened and tampered with."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import rfc8785

import drills.journal
from drills.errors import JournalError
from drills.events import Closed, Event, Failed, LossDeclared, Reopened, StageBegan, StageEnded
from drills.journal import GENESIS, Journal, read_journal
from drills.records import Outcome, Verdict
from drills.results import Problem

STAGES = ("guard", "backup", "restore", "checks", "outages", "destroy")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of twelve entries, closed."""
    path = tmp_path / "journal.jsonl"
    journal = Journal.create(path)
    for stage in STAGES:
        journal.append(StageBegan(stage=stage))
        journal.append(StageEnded(stage=stage, error="é \u2028 \\n" if stage == "restore" else ""))
    journal.close()
    return path


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def broken(path: Path) -> str:
    with pytest.raises(JournalError) as caught:
        read_journal(path)
    return caught.value.message


def test_a_journal_reads_back_what_was_appended_and_its_chain_holds(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path / "j")
    written = [journal.append(StageBegan(stage=stage)) for stage in STAGES]
    reading = read_journal(tmp_path / "j")
    assert reading.entries == tuple(written)
    assert [entry.seq for entry in written] == [1, 2, 3, 4, 5, 6]
    assert written[0].prev == GENESIS
    ends = [hashlib.sha256(line.rstrip(b"\n")).hexdigest() for line in lines(tmp_path / "j")]
    assert [entry.prev for entry in written[1:]] == ends[:-1]
    assert (reading.head, reading.lines) == (ends[-1], 6)


def test_elapsed_time_begins_at_the_opening_and_never_runs_back(path: Path) -> None:
    elapsed = [entry.elapsed for entry in read_journal(path).entries]
    assert None not in elapsed
    assert elapsed == sorted(elapsed, key=float)  # type: ignore[arg-type]


def test_the_recipe_of_the_docstring_is_right_for_every_line(path: Path) -> None:
    assert drills.journal.__doc__ is not None
    recipe = re.search(r"^    (head -n 4 .*sha256sum) ", drills.journal.__doc__, re.MULTILINE)
    assert recipe is not None
    told = [json.loads(line)["prev"] for line in lines(path)]
    for number in range(1, len(told)):
        command = recipe[1].replace("-n 4", f"-n {number}")
        done = subprocess.run(["/bin/sh", "-c", command], cwd=path.parent, capture_output=True, text=True, check=True)
        assert done.stdout.split()[0] == told[number]


def test_an_entry_is_seen_by_another_process_as_soon_as_append_returns(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path / "j")
    reader = "import pathlib, sys, drills.journal as j; print(j.read_journal(pathlib.Path(sys.argv[1])).head)"
    for _ in range(2):
        entry = journal.append(LossDeclared())
        done = subprocess.run(
            [sys.executable, "-c", reader, str(journal.path)], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == hashlib.sha256(entry.canonical()).hexdigest()


def test_append_returns_only_after_the_bytes_were_written_and_then_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.create(tmp_path / "j")
    synced: list[bytes] = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        sync(descriptor)
        synced.append(journal.path.read_bytes())

    monkeypatch.setattr(os, "fsync", watched)
    entry = journal.append(LossDeclared())
    assert synced == [entry.canonical() + b"\n"]


def test_create_syncs_the_directory_before_the_first_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    Journal.create(tmp_path / "j")
    assert synced == [tmp_path]


def test_create_refuses_a_journal_that_is_there_and_leaves_it_alone(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(JournalError, match="cannot be made: File exists"):
        Journal.create(path)
    assert path.read_bytes() == before


def test_create_refuses_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be made: No such file"):
        Journal.create(tmp_path / "none" / "j")


def test_a_closed_journal_takes_nothing_more(path: Path) -> None:
    journal = Journal.reopen(path)
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="cannot be written: Bad file descriptor"):
        journal.append(LossDeclared())


def changed_byte(content: list[bytes]) -> list[bytes]:
    return [*content[:4], content[4].replace(b"restore", b"restart"), *content[5:]]


TAMPERING: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "a changed byte": changed_byte,
    "a changed byte in the first line": lambda c: [c[0].replace(b"guard", b"gourd"), *c[1:]],
    "a byte that makes it no JSON": lambda c: [*c[:4], b"[" + c[4][1:], *c[5:]],
    "a last line that is no entry": lambda c: [*c[:-1], b"[" + c[-1][1:]],
    "a removed line": lambda c: [*c[:4], *c[5:]],
    "a removed first line": lambda c: c[1:],
    "swapped lines": lambda c: [*c[:4], c[5], c[4], *c[6:]],
    "swapped last lines": lambda c: [*c[:-2], c[-1], c[-2]],
    "an inserted copy": lambda c: [*c[:4], c[3], *c[4:]],
    "an inserted empty line": lambda c: [*c[:4], b"\n", *c[4:]],
    "an empty line at the end": lambda c: [*c, b"\n"],
    "a blank after a comma": lambda c: [*c[:4], c[4].replace(b",", b", ", 1), *c[5:]],
    "a blank at a line's end": lambda c: [*c[:4], c[4].replace(b"\n", b" \n"), *c[5:]],
    "line ends of Windows": lambda c: [line.replace(b"\n", b"\r\n") for line in c],
    "a byte order mark": lambda c: [b"\xef\xbb\xbf" + c[0], *c[1:]],
    "other key order": lambda c: [
        *c[:4], json.dumps(dict(reversed(json.loads(c[4]).items())), separators=(",", ":")).encode() + b"\n", *c[5:]
    ],
    "a key given twice": lambda c: [*c[:4], c[4].replace(b'{"at"', b'{"at":"x","at"'), *c[5:]],
    "an unknown key": lambda c: [*c[:4], c[4].replace(b'{"at"', b'{"aa":1,"at"'), *c[5:]],
    "an unknown kind of entry": lambda c: [*c[:-1], c[-1].replace(b"stage ended", b"stage mended")],
    "a number too large": lambda c: [*c[:-1], c[-1].replace(b'"seq":12', b'"seq":99999999999999999999')],
    "an infinite number": lambda c: [*c[:-1], re.sub(rb'"elapsed":[^,]*', b'"elapsed":1e999', c[-1])],
    "endless brackets": lambda c: [*c[:-1], b"[" * 100_000 + b"\n"],
    "bytes that are not UTF-8": lambda c: [*c[:4], c[4].replace(b"restore", b"rest\xff\xfe"), *c[5:]],
    "lines glued together": lambda c: [*c[:4], c[4].rstrip(b"\n"), *c[5:]],
}  # fmt: skip


@pytest.mark.parametrize("how", TAMPERING)
def test_tampering_breaks_the_chain(path: Path, how: str) -> None:
    before = lines(path)
    after = TAMPERING[how](before)
    assert after != before
    path.write_bytes(b"".join(after))
    assert re.search(r":\d+: (the chain is broken|not an entry of a journal)", broken(path))


def chained(path: Path, entries: list[bytes | dict[str, object]]) -> None:
    """Write these as lines whose every `prev` is right, as a forger would."""
    content, head = b"", GENESIS
    for entry in entries:
        line = entry if isinstance(entry, bytes) else rfc8785.dumps({**entry, "prev": head})  # type: ignore[dict-item]
        content, head = content + line + b"\n", hashlib.sha256(line).hexdigest()
    path.write_bytes(content)


def test_a_chain_computed_anew_over_a_gap_is_refused(path: Path) -> None:
    entries = [json.loads(line) for line in lines(path)]
    chained(path, [*entries])
    assert read_journal(path).lines == 12
    chained(path, [*entries[:4], *entries[5:]])
    assert ":5: the chain is broken" in broken(path)


def test_a_line_that_is_no_entry_is_passed_over_only_where_the_next_speaks_of_a_tear(path: Path) -> None:
    entries: list[bytes | dict[str, object]] = [json.loads(line) for line in lines(path)]
    reopened = {"at": "2026-01-01T00:00:00.000000Z", "elapsed": None, "seq": 14}
    whole = hashlib.sha256(lines(path)[-1].rstrip(b"\n")).hexdigest()
    chained(path, [*entries, b"torn", {**reopened, "body": {"event": "reopened", "torn": True, "whole": whole}}])
    assert len(read_journal(path).entries) == 13
    chained(path, [*entries, b"torn", {**reopened, "body": {"event": "reopened", "torn": False, "whole": whole}}])
    assert ":13: not an entry" in broken(path)
    chained(path, [*entries, b"torn", {**reopened, "body": {"event": "loss declared"}}])
    assert ":13: not an entry" in broken(path)


def test_the_message_names_the_line_and_both_values(path: Path) -> None:
    path.write_bytes(b"".join(changed_byte(lines(path))))
    assert re.search(r":6: the chain is broken: expected prev \w{12}… and seq 6, got \w{12}… and 6", broken(path))


def test_a_tail_cut_off_is_seen_by_the_head_alone(path: Path) -> None:
    whole = read_journal(path)
    path.write_bytes(b"".join(lines(path)[:-3]))
    cut = read_journal(path)
    assert cut.entries == whole.entries[:-3]
    assert cut.head != whole.head
    assert drills.journal.__doc__ is not None
    assert "Lines cut off at the end do not" in drills.journal.__doc__


@pytest.mark.parametrize("content", [b"", b"\n", b'{"at":'])
def test_a_journal_without_an_entry_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "j").write_bytes(content)
    assert "no entries" in broken(tmp_path / "j") or "not an entry" in broken(tmp_path / "j")


def test_a_journal_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in broken(tmp_path / "none")
    with pytest.raises(JournalError, match="cannot be read: No such file"):
        Journal.reopen(tmp_path / "none")


@pytest.mark.parametrize("kept", [1, 10, 100, -1])
def test_a_torn_last_line_is_passed_over_and_reopening_says_so(path: Path, kept: int) -> None:
    content = lines(path)
    torn = content[-1].rstrip(b"\n")[:kept]
    path.write_bytes(b"".join(content[:-1]) + torn)
    assert len(read_journal(path).entries) == 11

    journal = Journal.reopen(path)
    journal.append(Closed(verdict=Verdict.UNKNOWN, outcome=Outcome.INTERRUPTED))
    journal.close()
    reading = read_journal(path)
    assert [entry.seq for entry in reading.entries] == [*range(1, 12), 13, 14]
    reopened = reading.entries[11]
    assert reopened.body == Reopened(torn=True, whole=hashlib.sha256(content[-2].rstrip(b"\n")).hexdigest())
    assert reopened.prev == hashlib.sha256(torn).hexdigest()
    assert reopened.elapsed is None, "another process has another clock"
    assert lines(path)[11] == torn + b"\n", "the torn bytes stay in the chain"


def test_a_change_before_a_torn_line_is_seen_although_that_line_has_lost_its_prev(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])
    Journal.reopen(path).close()
    content = lines(path)
    content[10] = content[10].replace(b'"elapsed":0', b'"elapsed":9')
    assert content[10] != lines(path)[10]
    path.write_bytes(b"".join(content))
    assert ":13: the chain is broken: expected the last whole line" in broken(path)


def test_a_line_that_lacks_only_its_end_is_an_entry(path: Path) -> None:
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    assert len(read_journal(path).entries) == 12
    Journal.reopen(path).close()
    reading = read_journal(path)
    assert len(reading.entries) == 13
    assert reading.entries[-1].body == Reopened(torn=False, whole=reading.entries[-1].prev)


def test_reopening_a_whole_journal_goes_on_with_its_chain(path: Path) -> None:
    before = read_journal(path)
    Journal.reopen(path).close()
    reading = read_journal(path)
    assert reading.entries[-1].body == Reopened(torn=False, whole=reading.entries[-1].prev)
    assert reading.entries[-1].prev == before.head


def test_every_cut_inside_a_reopening_can_be_reopened_again(path: Path) -> None:
    """The process that reopens may be killed too, after any byte."""
    path.write_bytes(path.read_bytes()[:-20])
    torn = path.read_bytes()
    Journal.reopen(path).close()
    whole = path.read_bytes()
    for size in range(len(torn), len(whole)):
        path.write_bytes(whole[:size])
        Journal.reopen(path).close()
        reading = read_journal(path)
        assert isinstance(reading.entries[-1].body, Reopened)
        assert [entry.seq for entry in reading.entries[:11]] == list(range(1, 12))


def test_a_torn_line_in_the_middle_is_refused_where_nobody_says_so(path: Path) -> None:
    content = lines(path)
    path.write_bytes(b"".join([*content[:5], content[5][:30] + b"\n", *content[6:]]))
    assert ":6: not an entry of a journal" in broken(path)


def test_an_empty_journal_is_reopened_at_its_beginning(tmp_path: Path) -> None:
    Journal.create(tmp_path / "j").close()
    Journal.reopen(tmp_path / "j").close()
    (entry,) = read_journal(tmp_path / "j").entries
    assert (entry.seq, entry.prev, entry.body) == (1, GENESIS, Reopened(torn=False, whole=GENESIS))


class Failing:
    """os.write that writes so many bytes and then fails or is interrupted."""

    def __init__(self, count: int, error: BaseException) -> None:
        self.count = count
        self.error = error
        self.write = os.write

    def __call__(self, descriptor: int, content: bytes = b"") -> int:
        """As os.write and os.fsync are called."""
        if self.count <= 0:
            raise self.error
        written = self.write(descriptor, bytes(content)[: self.count])
        self.count -= written
        return written


@pytest.mark.parametrize("count", [0, 1, 50, 10_000])
@pytest.mark.parametrize(
    ("error", "seen"),
    [(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), JournalError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_an_append_that_did_not_return_is_taken_back_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, error: BaseException, seen: type[BaseException]
) -> None:
    journal = Journal.create(tmp_path / "j")
    journal.append(StageBegan(stage="backup"))
    if count == 10_000:
        monkeypatch.setattr(os, "fsync", Failing(0, error))
    else:
        monkeypatch.setattr(os, "write", Failing(count, error))
    with pytest.raises(seen):
        journal.append(StageBegan(stage="never said"))
    monkeypatch.undo()
    assert read_journal(journal.path).entries[0].body == StageBegan(stage="backup")
    journal.append(StageEnded(stage="backup", error="no space"))
    said = [entry.body for entry in read_journal(journal.path).entries]
    assert said == [StageBegan(stage="backup"), StageEnded(stage="backup", error="no space")]


def test_a_short_write_goes_on_until_all_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal.create(tmp_path / "j")
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, bytes(content)[:7]))
    entry = journal.append(LossDeclared())
    assert journal.path.read_bytes() == entry.canonical() + b"\n"


@pytest.mark.parametrize("change", [b"another process\n", b"", b"cut"])
def test_what_somebody_else_wrote_or_cut_is_never_taken_back(tmp_path: Path, change: bytes) -> None:
    journal = Journal.create(tmp_path / "j")
    journal.append(LossDeclared())
    content = b"" if change == b"cut" else journal.path.read_bytes() + (change or journal.path.read_bytes() + b"x")
    journal.path.write_bytes(content)
    with pytest.raises(JournalError, match="was changed by somebody else"):
        journal.append(LossDeclared())
    assert journal.path.read_bytes() == content


def test_an_event_that_is_no_text_is_an_error_and_leaves_the_journal_whole(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path / "j")
    problem = Problem(stage="restore", verdict=Verdict.UNKNOWN, message=b"caf\xe9".decode("utf-8", "surrogateescape"))
    with pytest.raises(JournalError, match="the event 'failed' cannot be written"):
        journal.append(Failed(problem=problem))
    journal.append(LossDeclared())
    assert len(read_journal(journal.path).entries) == 1


def test_threads_take_turns(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path / "j")
    ready = threading.Barrier(8)

    def write(event: Event) -> None:
        ready.wait()
        for _ in range(20):
            journal.append(event)

    threads = [threading.Thread(target=write, args=(StageBegan(stage=str(n)),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_journal(journal.path).lines == 160
