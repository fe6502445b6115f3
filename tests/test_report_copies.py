"""The report says how a copy came to be, how exact that is, and what a basis does not show."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fix_copies import GIVEN, HELD, PROOF
from fix_record import SAMPLES, changed, closed, failed, interrupted, passed, physical

from drills.record import Record
from drills.records import Basis, Verdict
from drills.targets import Answer
from reports import wording
from reports.html import render
from reports.meanings import BASES, CLOSED
from reports.summary import markdown

EVIL = "<script>alert('1')</script>\"&"
NEW = ('id="exact"', 'href="#exact"', 'id="quarantine"', 'href="#quarantine"', "<details")


class _Words(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.feed(page)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(record: Record) -> str:
    text = re.sub(r"\s+", " ", " ".join(_Words(render(record)).words))
    return re.sub(r" ([.,:;])", r"\1", text)


def test_a_physical_copy_has_its_sections_and_no_other_copy_has() -> None:
    page = render(physical().record)
    assert all(sign in page for sign in NEW)
    for sample in set(SAMPLES) - {"physical"}:
        page = render(SAMPLES[sample]().record)
        assert not [sign for sign in NEW if sign in page], sample


def test_how_exact_names_snapshot_target_commits_answers_and_the_end() -> None:
    text = read(physical().record).split("How exact")[-1]
    for told in (
        PROOF.snapshot, PROOF.noted, PROOF.target, "not inclusive", "20,690", "48924 at 0/5A3F2A0",
        "29 transactions asked for: aborted 3, never 26", "1,000 transactions asked for, the last of the 20,690",
        "committed 1,000", "before LSN 0/5A3F2A0", "3 segments out of the archive", "48925",
    ):  # fmt: skip
        assert told in read(physical().record), told
    assert "Not the moment of a snapshot" not in text


def test_an_inclusive_target_and_an_idle_source_are_said_as_such() -> None:
    idle = PROOF.model_copy(update={"inclusive": True, "behind": 0, "first_behind": ""})
    text = read(changed(physical().record, alignment=idle))
    assert "inclusive: the record there was to be replayed" in text
    assert "not inclusive" not in text
    assert "the WAL held no further commit" in text


def test_a_disproved_alignment_reads_as_a_fail_and_claims_nothing() -> None:
    wrong = PROOF.model_copy(
        update={"verdict": Verdict.FAIL, "reason": "2 transactions are committed", "hidden": {"committed": 2}}
    )
    page = render(changed(physical().record, alignment=wrong))
    section = page[page.index('id="exact"') : page.index('id="quarantine"')]
    assert 'class="badge fail"' in section
    assert "2 transactions are committed" in section
    assert 'class="badge pass"' not in section


def test_a_copy_that_was_not_asked_is_not_called_exact() -> None:
    text = read(changed(physical().record, alignment=None, quarantine=None))
    assert "Nothing shows that it stands where the source was measured." in text
    assert "Nothing shows that it was in quarantine." in text


def test_a_point_that_the_plan_names_is_no_moment_of_a_snapshot() -> None:
    record = physical().record
    recovery = record.plan["recovery"] | {"to": {"time": None, "lsn": None, "name": EVIL, "latest": None}}
    page = render(changed(record, alignment=None, plan=record.plan | {"recovery": recovery}))
    assert "Not the moment of a snapshot." in page
    assert "<script" not in page


def test_every_answer_of_the_quarantine_stands_there_and_none_is_blank() -> None:
    text = read(physical().record)
    assert f"All {len(HELD.answers)} questions" in text
    assert all(answer.question in text for answer in HELD.answers)
    assert "primary_conninfo empty, by command line" in text
    assert "replication slots none" in text


def test_a_wrong_answer_would_be_seen_beside_the_right_one() -> None:
    odd = HELD.model_copy(update={"answers": (Answer(question="archive_mode", expected="off", actual="on"),)})
    text = read(changed(physical().record, quarantine=odd))
    assert "archive_mode on expected: off" in text


def test_the_answers_are_open_from_the_start_so_that_paper_has_them() -> None:
    assert "<details open>" in render(physical().record)


def test_the_backup_shows_its_label_age_positions_timeline_and_details() -> None:
    text = read(closed().record)
    assert GIVEN.taken is not None
    assert GIVEN.label in text
    assert (
        f"A backup that was there already was picked by the method dump_file; it is of {wording.instant(GIVEN.taken)}"
        in text
    )
    assert f"Version id {GIVEN.details['version id']}" in text
    assert "Inner sha256 not told" in text
    pages = read(physical().record)
    assert "begun at 0/30001E0, consistent at 0/35BDB10" in pages
    assert "SHA-256 of its backup_manifest" in pages
    assert "WAL positions" not in read(passed().record)


def test_a_backup_that_its_keeper_verifies_has_no_digest_of_ours() -> None:
    record = closed().record
    assert record.backup is not None
    kept = record.backup.model_copy(update={"digest": "", "taken": None, "files": 0})
    text = read(changed(record, backup=kept))
    assert "none of the drill's own: whoever keeps the backup verifies it" in text
    assert "nobody says when it was taken" in text
    assert "in 0 files" not in text


def test_a_snapshot_that_the_drill_had_aws_take_is_not_said_to_have_been_there() -> None:
    record = closed().record
    assert record.backup is not None
    managed = record.backup.model_copy(update={"method": "rds"})
    for kind, told in {"take": "A backup was taken", "automated": "A backup that was there already was picked"}.items():
        plan = record.plan | {"recovery": {"method": "rds", "backup": {"kind": kind}}}
        assert f"{told} by the method rds" in read(changed(record, backup=managed, plan=plan))


def test_closed_periods_are_said_plainly_beside_the_verdict() -> None:
    record = closed().record
    page = render(record)
    assert record.verdict is Verdict.PASS
    assert page.index('<p class="word">') < page.index("Closed periods only.") < page.index("Objectives: target")
    assert "row counts and contents were not" in CLOSED
    assert CLOSED in markdown(record, Path("/evidence"))
    assert "the backup is of a time of its own" in read(record)
    for other in (passed, failed, physical, interrupted):
        assert "Closed periods only." not in render(other().record)
        assert "Closed periods only." not in markdown(other().record, Path("/evidence"))


def test_every_basis_says_what_it_shows_and_what_it_does_not() -> None:
    assert set(BASES) == set(Basis)
    assert all(" not " in told and "shows" in told for told in BASES.values())


@pytest.mark.parametrize(
    ("sample", "there"),
    [
        ("passed", {"snapshot", "control"}),
        ("physical", {"wal", "control"}),
        ("closed", {"closed-period", "control", "none"}),
    ],
)
def test_the_legend_has_the_bases_of_the_drill_and_no_others(sample: str, there: set[str]) -> None:
    page = render(SAMPLES[sample]().record)
    legend = page[page.index('<dl class="facts basis">') :].split("</dl>")[0]
    assert set(re.findall("<dt>([^<]+)</dt>", legend)) == there
    assert all(html.escape(BASES[Basis(name)], quote=False) in html.unescape(legend) for name in there)


def test_whatever_tools_and_servers_say_is_escaped() -> None:
    record = physical().record
    assert record.backup is not None
    assert record.recovered is not None
    page = render(
        changed(
            record,
            backup=record.backup.model_copy(update={"label": EVIL, "details": {EVIL: EVIL}, "start_lsn": EVIL}),
            recovered=record.recovered.model_copy(update={"reason": EVIL, "end_lsn": EVIL}),
            alignment=PROOF.model_copy(update={"reason": EVIL, "first_behind": EVIL, "hidden": {EVIL: 1}}),
            quarantine=HELD.model_copy(update={"answers": (Answer(question=EVIL, expected=EVIL, actual=EVIL + "x"),)}),
        )
    )
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 8
