"""The report stands in a browser and in a shell: it fits the screen, and its recipe finds every change to the chain."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from fix_record import SAMPLES, changed, opened, passed

from drills import events
from drills.journal import Journal, read_journal
from drills.record import Record
from drills.records import Verdict
from drills.results import Line
from reports.html import render


def recipe(record: Record, folder: Path) -> subprocess.CompletedProcess[str]:
    found = re.search(r'<pre class="short" id="chain">(.*?)</pre>', render(record), re.DOTALL)
    assert found is not None
    shell = shutil.which("bash")
    assert shell is not None
    return subprocess.run(
        [shell, "-c", html.unescape(found[1])], cwd=folder, capture_output=True, text=True, check=False
    )


def chain(path: Path, *, torn: bool = False) -> Record:
    """A real journal, and a record that names its head."""
    journal = Journal.create(path)
    journal.append(opened())
    journal.append(events.StageBegan(stage='a "stage" with a \\ back slash, \t and "prev":"0"'))
    journal.close()
    if torn:
        with path.open("ab") as file:
            file.write(b'{"at":"2026-06-30T22:09:05')
        journal = Journal.reopen(path)
        journal.append(events.Interrupted(reason="swept"))
        journal.close()
    reading = read_journal(path)
    return changed(passed().record, head=reading.head, entries=reading.lines)


@pytest.mark.parametrize("torn", [False, True])
def test_the_shell_recipe_finds_a_sound_chain_sound(tmp_path: Path, torn: bool) -> None:  # noqa: FBT001
    done = recipe(chain(tmp_path / "journal.jsonl", torn=torn), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("the chain holds: ")


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize(
    "damage", ["changed", "changed before the tear", "removed", "added", "moved", "cut", "last changed"]
)
def test_the_shell_recipe_finds_a_damaged_chain_broken(tmp_path: Path, damage: str, torn: bool) -> None:  # noqa: FBT001
    path = tmp_path / "journal.jsonl"
    record = chain(path, torn=torn)
    lines = path.read_bytes().splitlines(keepends=True)
    match damage:
        case "changed":
            lines[0] = lines[0].replace(b"controls@example.com", b"somebody@example.com")
        case "changed before the tear":
            lines[1] = lines[1].replace(b"back slash", b"back flash")
        case "removed":
            del lines[0]
        case "added":
            lines.insert(1, lines[0])
        case "moved":
            lines[0], lines[1] = lines[1], lines[0]
        case "cut":
            del lines[-1]
        case _:
            lines[-1] = lines[-1].replace(b"stage", b"phase").replace(b"swept", b"ended")
    path.write_bytes(b"".join(lines))
    done = recipe(record, tmp_path)
    assert done.returncode != 0
    assert "THE CHAIN IS BROKEN" in done.stdout


def test_the_sample_journals_pass_the_recipe_of_their_own_reports(tmp_path: Path) -> None:
    for sample in SAMPLES.values():
        told = sample()
        (tmp_path / "journal.jsonl").write_bytes(told.journal)
        assert recipe(told.record, tmp_path).returncode == 0


@pytest.fixture
def chromium() -> str:
    """The browser, where this machine has one."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no chromium on PATH: the layout at phone and desk width was not looked at")
    return found


MEASURE = """<!DOCTYPE html><body>{frames}<pre id="found"></pre><script>onload = () => {{
  for (const frame of document.querySelectorAll("iframe")) {{
    const page = frame.contentDocument.documentElement;
    const sizes = [page.clientWidth, page.scrollWidth, page.scrollHeight];
    document.getElementById("found").textContent += sizes.join(":") + ";";
  }} }}</script>"""


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_page_never_scrolls_sideways_on_a_phone_or_a_desk(sample: str, chromium: str, tmp_path: Path) -> None:
    record = SAMPLES[sample]().record
    wide = Line(key="x" * 90, expected="9" * 60, actual=None, difference="no" * 60, verdict=Verdict.UNKNOWN)
    stuffed = {
        name: tuple(
            result.model_copy(update={"lines": (wide,) * 3, "expected": "9" * 70, "actual": "w" * 90})
            for result in results
        )
        for name, results in record.checks.items()
    }
    (tmp_path / "report.html").write_text(render(changed(record, checks=stuffed)), encoding="utf-8")
    frames = "".join(
        f'<iframe src="report.html" width="{width}" height="900" style="border:0"></iframe>' for width in (390, 1280)
    )
    (tmp_path / "frames.html").write_text(MEASURE.format(frames=frames), encoding="utf-8")
    done = subprocess.run(
        [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--allow-file-access-from-files", "--hide-scrollbars", "--virtual-time-budget=5000",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom", (tmp_path / "frames.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r'<pre id="found">([^<]+)</pre>', done.stdout)
    assert found is not None, done.stdout[-500:]
    widths = [tuple(map(int, part.split(":"))) for part in found[1].rstrip(";").split(";")]
    assert [client for client, _, _ in widths] == [390, 1280]
    assert all(scroll <= client and height > 900 for client, scroll, height in widths)
