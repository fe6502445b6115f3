"""The report says what the record says: all of it, nothing else, and the same each time."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

import pytest
from fix_record import PLAN, SAMPLES, changed, failed, interrupted, opened, passed, refused, tell
from fix_results import OPENED

from drills.record import Record
from drills.records import Finding, Outcome, Resource, Verdict
from drills.results import LINES_KEPT, Line, Problem
from reports import wording
from reports.html import render


class _Page(HTMLParser):
    """The words of a page as a reader meets them, and every reference in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.words.append(" " if tag in {"p", "td", "th", "dt", "dd", "li", "pre", "h2", "h3", "h4"} else "")
        self.references += [value or "" for name, value in attrs if name in {"href", "src", "srcset", "action", "data"}]
        self.references += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


def read(record: Record) -> str:
    return _Page(render(record)).text.split("Drillbook · report", 1)[1]


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_same_record_gives_the_same_bytes_and_survives_its_own_json(sample: str) -> None:
    record = SAMPLES[sample]().record
    again = Record.model_validate_json(record.canonical())
    assert render(record) == render(record) == render(again)


@pytest.mark.parametrize("sample", SAMPLES)
def test_nothing_is_run_and_nothing_is_loaded_from_elsewhere(sample: str) -> None:
    page = render(SAMPLES[sample]().record)
    parsed = _Page(page)
    assert not {"script", "img", "iframe", "link", "object", "embed", "base", "form"} & set(parsed.tags)
    assert all(reference.startswith(("#", "./")) for reference in parsed.references)
    assert not re.search(r"url\((?!#)|@import|@font-face", page)


@pytest.mark.parametrize("sample", SAMPLES)
def test_no_claim_of_compliance_and_no_claim_of_a_signature_is_made(sample: str) -> None:
    text = read(SAMPLES[sample]().record)
    assert "complian" not in text.lower()
    assert "This report is not signed, and nobody has approved or reviewed it." in text


@pytest.mark.parametrize("sample", SAMPLES)
def test_no_cell_and_no_fact_is_blank(sample: str) -> None:
    page = render(SAMPLES[sample]().record)
    for element in ("td", "dd", "th", "pre", "li", "p"):
        for inner in re.findall(rf"<{element}(?:\s[^>]*)?>(.*?)</{element}>", page, re.DOTALL):
            assert re.sub(r"<[^>]*>", "", inner).strip(), f"a blank {element}"
    assert "None" not in page


@pytest.mark.parametrize(
    ("sample", "verdict"),
    [
        ("passed", "PASS"),
        ("failed", "FAIL"),
        ("refused", "UNKNOWN"),
        ("interrupted", "UNKNOWN"),
        ("physical", "PASS"),
        ("closed", "PASS"),
    ],
)
def test_the_verdict_is_a_word_a_color_and_a_shape(sample: str, verdict: str) -> None:
    page = render(SAMPLES[sample]().record)
    assert f'<p class="word">{verdict}</p>' in page
    assert f'<section class="verdict {verdict.lower()}"' in page
    assert page.index(f'<use href="#is-{verdict.lower()}"/>') < page.index('<p class="word">')
    assert f"<title>{verdict}: " in page


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_is_told_in_a_sentence(outcome: Outcome) -> None:
    assert '<dd class="outcome">' in render(changed(passed().record, outcome=outcome))


def test_a_pass_gives_no_reasons_and_a_fail_gives_every_one() -> None:
    assert "Why it is not PASS" not in read(passed().record)
    record = failed().record
    text = read(record)
    assert len(record.reasons) > 5
    assert all(reason in text for reason in record.reasons)


def test_every_check_line_outage_objective_finding_and_file_appears() -> None:
    record = failed().record
    text = read(record)
    for name, results in record.checks.items():
        assert f"Checks {name}" in text
        for result in results:
            assert all(part in text for part in (result.name, result.reason, wording.instant(result.started)))
            assert re.sub(r"\s+", " ", result.sql) in text
            assert all(wording.figure(line.expected or "") in text and line.key in text for line in result.lines)
            assert result.csv is not None
            assert f'href="./{result.csv.path}"' in render(record)
            assert result.csv.sha256 in text
    for outage in record.outages:
        assert all(part in text for part in (outage.name, outage.reason, *outage.lost_commits))
    for objective in record.objectives:
        assert objective.name in text
        assert objective.meaning in text
    for finding in record.findings:
        assert finding.name in text
        assert finding.found in text


def test_what_differs_shows_its_difference_to_the_cent_and_to_the_row() -> None:
    text = read(failed().record)
    assert "branch=7 FAIL -76,779.56 -76,779.55 0.01" in text
    assert "public.pgbench_history FAIL 48,213 48,212 -1" in text
    assert text.index("branch=7 FAIL") < text.index("branch=1 PASS")


def test_the_lineage_and_the_people_are_named() -> None:
    record = failed().record
    text = read(record)
    assert record.source is not None
    assert record.snapshot is not None
    assert record.backup is not None
    assert record.copy_of_it is not None
    for part in (
        record.requester, record.runner.account, record.runner.host, record.runner.scheduler, PLAN["owner"],
        *PLAN["controls"],
        record.provenance.sha256, record.provenance.commit, record.source.system_identifier, record.snapshot.wal_lsn,
        record.backup.digest, record.copy_of_it.server.system_identifier, *record.copy_of_it.deviations, record.head,
    ):  # fmt: skip
        assert part in text
    assert "9,120,331 bytes (9.1 MB) in 7 files" in text
    assert "pg_dump --format=directory" in text


def test_a_dirty_or_unversioned_plan_is_said_aloud_in_the_verdict_box_and_in_its_section() -> None:
    dirty, clean, unversioned = (read(passed(dirty=dirty).record) for dirty in (True, False, None))
    assert "The work tree held changes that were not committed" in dirty
    assert "UNCOMMITTED CHANGES." in dirty
    assert "The plan was not under version control" in unversioned
    assert "NOT UNDER VERSION CONTROL." in unversioned
    assert "UNCOMMITTED" not in clean
    assert "NOT UNDER VERSION CONTROL" not in clean


def test_what_was_not_reached_says_so() -> None:
    text = read(interrupted().record)
    assert "Took not measured" in text
    assert "No loss was declared: no recovery clock started" in text
    for absent in ("No snapshot was taken", "No backup was completed", "No copy was completely restored"):
        assert f"{absent}: not reached." in text
    assert "No check was put to a copy: nothing was compared, and nothing was shown to be right." in text
    assert "The plan asks for outages and none was measured: not reached." in text
    assert "NOT DESTROYED." in text
    assert "checks passed not reached" in read(failed().record)


def test_a_refused_drill_shows_the_finding_that_stopped_it() -> None:
    text = read(refused().record)
    assert "Refused: the drill did not begin." in text
    assert "staging is not production FAIL both say system identifier 7521904418203377665" in text
    assert "give staging an address of its own" in text


def test_a_drill_that_is_not_closed_and_knows_nothing_still_makes_a_report() -> None:
    text = read(tell([(0.0, opened(plan=PLAN | {"outages": [], "objectives": {}}))]).record)
    assert "Closed not closed" in text
    assert "The plan sets no objective" in text
    assert "No stage began: there is nothing to draw." in text
    assert "The guard did not report: not reached." in text


def test_a_value_that_is_missing_is_not_measured_or_none_but_never_fine() -> None:
    record = passed().record
    result = record.checks["after restore"][0]
    gone = Line(key="gone", expected="5", actual=None, difference=None, verdict=Verdict.FAIL)
    unasked = Line(key="unasked", expected=None, actual=None, difference=None, verdict=Verdict.UNKNOWN)
    odd = result.model_copy(update={"lines": (gone, unasked), "expected": "", "actual": "", "verdict": Verdict.UNKNOWN})
    text = read(changed(record, checks={"after restore": (odd,)}))
    assert "gone FAIL 5 no value not applicable" in text
    assert "unasked UNKNOWN not measured not measured not measured" in text


def test_lines_and_lost_commits_that_were_cut_say_how_many_there_are() -> None:
    record = failed().record
    result = record.checks["after restore"][1].model_copy(update={"compared": 12345})
    outage = record.outages[0].model_copy(update={"lost": 4321})
    text = read(changed(record, checks={"after restore": (result,)}, outages=(outage,)))
    assert "4 of 12,345 lines are shown" in text
    assert "the first 2 of 4,321; the file holds all" in text


def test_an_outage_that_is_unknown_does_not_claim_that_nothing_was_lost() -> None:
    record = passed().record
    doubtful = record.outages[0].model_copy(update={"verdict": Verdict.UNKNOWN, "healed": None, "rpo_seconds": None})
    text = read(changed(record, outages=(doubtful,)))
    assert "every acknowledged commit was found again" not in text
    assert "RPO not measured" in text
    assert "Healed not reached" in text


def test_whatever_the_record_holds_is_escaped() -> None:
    evil = "<script>alert('1')</script>\"&"
    record = failed().record
    result = record.checks["after restore"][0]
    line = result.lines[0].model_copy(update={"key": evil, "actual": evil})
    odd = result.model_copy(update={"name": evil, "reason": evil, "sql": evil, "lines": (line,)})
    page = render(
        changed(
            record,
            drill="DR-\"};</style><script>'",
            reasons=(f'FAIL: "{evil}"',),
            checks={evil: (odd,)},
            plan=record.plan | {"owner": evil, "database": evil},
            problems=(Problem(stage=evil, verdict=Verdict.FAIL, message=evil, hint=evil),),
            findings=(Finding(name=evil, verdict=Verdict.FAIL, found=evil, hint=evil),),
            left=(Resource(kind=evil, name=evil),),
        )
    )
    assert "<script" not in page
    assert page.count("</style>") == 1
    assert 'content: "DR-\\22 \\7d \\3b ' in page
    assert html.escape(evil).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page


def test_every_instant_is_labelled_utc() -> None:
    instants = re.findall(r"<time [^>]*>([^<]*)</time>", render(failed().record))
    assert len(instants) > 30
    assert all(instant.endswith(" UTC") for instant in instants)


def test_the_samples_are_what_their_names_say() -> None:
    outcomes = ["finished", "finished", "refused", "interrupted", "finished", "finished"]
    assert [SAMPLES[name]().record.outcome for name in SAMPLES] == outcomes
    assert all(len(result.lines) <= LINES_KEPT for results in passed().record.checks.values() for result in results)
    assert passed().record.opened == OPENED


def test_what_the_lines_add_up_to_stands_below_them() -> None:
    for sample in (passed, failed):
        record = sample().record
        results = [result for results in record.checks.values() for result in results if result.total]
        page = render(record)
        feet = [_Page(foot).text.split() for foot in re.findall("<tfoot>(.*?)</tfoot>", page, re.DOTALL)]
        assert len(feet) == len(results) > 0
        for foot, result in zip(feet, results, strict=True):
            assert result.total is not None
            assert (foot[0], result.total.verdict.value in foot) == ("total", True)
            assert html.unescape("".join(foot)).replace(",", "").count(str(result.total.actual)) >= 1
