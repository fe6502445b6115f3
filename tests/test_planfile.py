"""Reading a plan's file: what is refused, with which line, and what no message may repeat."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import get_args

import pytest

from drills.errors import PlanError
from drills.plan import Method
from drills.planfile import parse_plan, read_plan

GOOD = """\
version: 1
database: billing
owner: payments-sre
source:
  address: postgresql://drillbook@db.internal:5432/billing
  password: env:BILLING_PASSWORD
recovery:
  method: dump
  jobs: 4
staging:
  disk_limit: 200GB
checks:
  row_counts: true
  totals:
    - name: by currency
      table: billing.invoice
      amount: amount
      by: {currency: currency}
    - name: by month
      table: billing.invoice
      amount: amount
  invariants:
    - name: suspense is empty
      sql: SELECT sum(amount) FROM suspense
      expect: 0.10
outages:
  - kind: kill_server
    name: server killed
    rto: 90s
objectives:
  rto: 4h
"""
SECRET = "hunter2-is-secret"
A_SIZE = "expected a number and a unit (B, kB, MB, GB, TB) such as 20GB"
A_DURATION = "expected a number and a unit (ms, s, min, h, d) such as 15min"

METHODS = ", ".join(repr(get_args(method.model_fields["method"].annotation)[0]) for method in get_args(Method))
"""As an error names them."""


def change(old: str, new: str) -> str:
    """The good plan with one thing in it changed."""
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def refusal(text: str | bytes) -> PlanError:
    with pytest.raises(PlanError) as caught:
        parse_plan(text.encode() if isinstance(text, str) else text, "plan.yaml")
    return caught.value


def test_a_good_plan_is_read_with_its_bytes_and_digest(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(GOOD)
    file = read_plan(path)
    assert file.plan.source.address == "postgresql://drillbook@db.internal:5432/billing"
    assert file.plan.recovery.jobs == 4
    assert file.plan.staging.disk_limit == 200_000_000_000
    assert file.plan.checks.totals[0].by == {"currency": "currency"}
    assert file.plan.outages[0].rto == timedelta(seconds=90)
    assert file.text == GOOD.encode()
    assert file.provenance.path == str(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"none\.yaml: cannot be read: No such file"):
        read_plan(tmp_path / "none.yaml")


def test_a_file_too_large_for_a_plan_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "dump.sql"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(PlanError, match="larger than 1000000 bytes"):
        read_plan(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "plan.yaml:1: expected a mapping with the key `version`, got an empty file"),
        ("# only words\n", "plan.yaml:1: expected a mapping with the key `version`, got an empty file"),
        ("- version: 1\n", "plan.yaml:1: expected a mapping with the key `version`, got a list"),
        ("version\n", "plan.yaml:1: expected a mapping with the key `version`, got a single value"),
        ("a: 1\nb: c: d\n", "plan.yaml:2: not YAML: mapping values are not allowed here"),
        ("a:\n\tb: 1\n", "plan.yaml:2: not YAML: while scanning for the next token, found character '\\t'"),
        ("a: 1\n---\nb: 2\n", "plan.yaml:2: not YAML: expected a single document in the stream"),
        ("a: [1\n", "plan.yaml:2: not YAML: while parsing a flow sequence"),
        ("a: 1\nb: \x07\n", "plan.yaml:2: not YAML: special characters are not allowed"),
        ("a: 1\n? [b]\n: 1\n", "plan.yaml:2: expected a name as key"),
        ("a: 1\n? {b: 1}\n: 1\n", "plan.yaml:2: expected a name as key"),
        ("a: 1\n~: 1\n", "plan.yaml:2: expected a name as key"),
        ('a: 1\nb: "\\u202e"\n', "plan.yaml:2: an invisible character (U+202E)"),
        ('a: 1\n"\\ud800": 1\n', "plan.yaml:2: an invisible character (U+D800)"),
        ('a: 1\nb: "\\0"\n', "plan.yaml:2: an invisible character (U+0000)"),
        ("a: 1\nb: !!python/object:os.system x\n", "plan.yaml:2: tags have no place in a plan"),
        ("a: 1\nb: !!bool no\n", "plan.yaml:2: tags have no place in a plan"),
        ("a: &x 1\nb: 2\n", "plan.yaml:1: anchors and aliases have no place in a plan"),
        ("a: 1\nb: *x\n", "plan.yaml:2: anchors and aliases have no place in a plan"),
        ("a: 1\n<<: *x\n", "plan.yaml:2: anchors and aliases have no place in a plan"),
    ],
)
def test_what_is_not_yaml_or_has_no_place_in_a_plan_is_refused_with_its_line(text: str, message: str) -> None:
    assert refusal(text).message.startswith(message)


def test_what_is_not_utf8_is_refused_with_its_line() -> None:
    assert refusal(b"version: 1\nowner: caf\xe9\n").message == "plan.yaml:2: not UTF-8 text (byte 21)"
    assert "not UTF-8" in refusal(GOOD.encode("utf-16")).message


def test_a_byte_order_mark_and_windows_line_ends_change_nothing() -> None:
    expected = parse_plan(GOOD.encode(), "plan.yaml")
    assert parse_plan(b"\xef\xbb\xbf" + GOOD.encode(), "plan.yaml") == expected
    assert parse_plan(GOOD.replace("\n", "\r\n").encode(), "plan.yaml") == expected


def test_a_merge_key_merges_nothing() -> None:
    assert "plan.yaml:32: …: unknown key" in refusal(GOOD + "<<: {tools: embedded}\n").message


@pytest.mark.parametrize("deep", ["[" * 400_000, "{a: " * 250_000, "- " * 400_000, "a:\n" + " b:\n" * 2])
def test_a_plan_nested_without_end_is_refused_at_once(deep: str) -> None:
    began = time.monotonic()
    refusal(deep)
    assert time.monotonic() - began < 5


def test_a_plan_that_would_grow_without_end_is_refused_at_once() -> None:
    laughs = ["a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    laughs += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    began = time.monotonic()
    assert "anchors and aliases" in refusal("\n".join(laughs)).message
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("old", "new", "message", "hint"),
    [
        ("owner:", "ownr:", "plan.yaml:3: ownr: unknown key", "for `ownr`, did you mean `owner`?"),
        ("  jobs: 4", "  job: 4", "plan.yaml:9: recovery.job: unknown key", "for `job`, did you mean `jobs`?"),
        ("disk_limit", "Disk-Limit", "plan.yaml:11: staging.Disk-Limit: unknown key", "did you mean `disk_limit`?"),
        ("    rto: 90s", "    rt0: 90s", "plan.yaml:29: outages[0].rt0: unknown key", "did you mean `rto`?"),
        (
            "by month\n      table",
            "by month\n      tabel",
            "plan.yaml:20: checks.totals[1].tabel: unknown key",
            "for `tabel`, did you mean `table`?",
        ),
        (
            "  rto: 4h",
            "  window: 4h",
            "plan.yaml:31: objectives.window: unknown key",
            "known beside `window`: rto, rpo",
        ),
    ],
)
def test_an_unknown_key_is_told_with_its_line_and_what_was_meant(old: str, new: str, message: str, hint: str) -> None:
    error = refusal(change(old, new))
    assert message in error.message.splitlines()
    assert hint in error.hint


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("version: 1", "version: 2", "1: version: expected 1, got 2"),
        ("version: 1", "version: '1'", "1: version: expected 1, got '1'"),
        ("payments-sre", "12", "3: owner: expected a text, got a number (put it in quotes)"),
        ("payments-sre", "' '", "3: owner: expected 1 to 100 characters on one line, without blanks at the ends"),
        ("database: billing", "database: B", "2: database: expected lowercase letters, digits, - and _, 48 at most"),
        ("method: dump", "method: tape", f"8: recovery.method: expected one of {METHODS}, got 'tape'"),
        ("jobs: 4", "jobs: four", "9: recovery.jobs: expected a whole number, got 'four'"),
        ("jobs: 4", "jobs: '4'", "9: recovery.jobs: expected a whole number, got '4'"),
        ("jobs: 4", "jobs: yes", "9: recovery.jobs: expected a whole number, got true"),
        ("jobs: 4", "jobs: 4.0", "9: recovery.jobs: expected a whole number, got 4.0"),
        ("jobs: 4", "jobs: 010", "9: recovery.jobs: expected a whole number, got '010'"),
        ("jobs: 4", "jobs: 1:30", "9: recovery.jobs: expected a whole number, got '1:30'"),
        ("jobs: 4", "jobs: 65", "9: recovery.jobs: expected at most 64, got 65"),
        ("jobs: 4", "jobs: 0", "9: recovery.jobs: expected at least 1, got 0"),
        ("counts: true", "counts: 'yes'", "13: checks.row_counts: expected true or false, got 'yes'"),
        ("counts: true", "counts: 1", "13: checks.row_counts: expected true or false, got 1"),
        ("200GB", "200", f"11: staging.disk_limit: {A_SIZE}, got 200"),
        ("200GB", "200GiB", f"11: staging.disk_limit: {A_SIZE}, got '200GiB'"),
        ("200GB", "0GB", "11: staging.disk_limit: expected more than nothing"),
        ("rto: 4h", "rto: 4", f"31: objectives.rto: {A_DURATION}, got 4"),
        ("rto: 4h", "rto: 4.5", f"31: objectives.rto: {A_DURATION}, got 4.5"),
        ("rto: 4h", "rto: yes", f"31: objectives.rto: {A_DURATION}, got true"),
        ("rto: 4h", "rto: {h: 4}", f"31: objectives.rto: {A_DURATION}, got something else"),
        ("{currency: currency}", "[currency]", "18: checks.totals[0].by: expected a mapping, got a list"),
        ("{currency: currency}", "{x: ''}", "18: checks.totals[0].by.x: expected a text that is not blank"),
        (
            "expect: 0.10",
            "expect: true",
            "25: checks.invariants[0].expect: expected a text, got true or false (put it in quotes)",
        ),
    ],
)
def test_a_wrong_value_is_told_with_its_line_what_was_expected_and_what_came(old: str, new: str, message: str) -> None:
    assert refusal(change(old, new)).message == f"plan.yaml:{message}"


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ("staging:", "plan.yaml:10: staging: expected a mapping, got nothing"),
        ("staging: all", "plan.yaml:10: staging: expected a mapping, got a single value"),
        ("staging: [disk_limit]", "plan.yaml:10: staging: expected a mapping, got a list"),
        ("controls: SOC2", "plan.yaml:10: controls: expected a list, got a single value"),
        ("controls: {SOC2: 1}", "plan.yaml:10: controls: expected a list, got a mapping"),
        ("controls: [SOC2, [A1]]", "plan.yaml:10: controls[1]: expected a text, got a list"),
    ],
)
def test_a_section_of_another_shape_is_refused(new: str, message: str) -> None:
    assert refusal(change("staging:\n  disk_limit: 200GB", new)).message == message


def test_a_missing_key_is_told_at_the_section_that_lacks_it() -> None:
    assert refusal(change("  method: dump\n", "")).message == "plan.yaml:7: recovery.method: missing"
    assert refusal(change("owner: payments-sre\n", "")).message == "plan.yaml:1: owner: missing"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "owner: somebody\n", "plan.yaml:32: the key `owner` is given twice"),
        (change("  jobs: 4", "  jobs: 4\n  jobs: 8"), "plan.yaml:10: the key `jobs` is given twice"),
        (change("    rto: 90s", "    name: again"), "plan.yaml:29: the key `name` is given twice"),
        (change("{currency: currency}", "{2024: a, '2024': b}"), "plan.yaml:18: the key `2024` is given twice"),
    ],
)
def test_a_key_given_twice_is_refused(text: str, message: str) -> None:
    assert refusal(text).message == message


def test_all_that_a_copy_of_another_time_cannot_be_held_against_is_told_at_once_with_what_to_write() -> None:
    text = change("  method: dump\n  jobs: 4", "  method: dump_file\n  path: /srv/billing.dump")
    error = refusal(text)
    off = "the copy is of another time than the source is measured at: expected this to be off"
    closing = "expected a closing rule, since the copy is of another time than the source is measured at"
    assert error.message.splitlines() == [
        f"plan.yaml:12: checks.content.compare: {off}",
        f"plan.yaml:12: checks.sequences: {off}",
        f"plan.yaml:13: checks.row_counts: {off}",
        f"plan.yaml:15: checks.totals[0].closed: {closing}",
        f"plan.yaml:19: checks.totals[1].closed: {closing}",
    ]
    lines = error.hint.splitlines()
    assert lines[0] == "in the plan write:"
    switched_off = "\n".join(line.removeprefix("  ") for line in lines[2:])
    assert switched_off.split("\n") == ["  row_counts: false", "  content: {compare: false}", "  sequences: false"]
    mended = text.replace("  row_counts: true", switched_off)
    left = refusal(mended)
    assert [line.partition(": ")[2] for line in left.message.splitlines()] == [
        f"checks.totals[0].closed: {closing}",
        f"checks.totals[1].closed: {closing}",
    ]


def test_several_faults_are_told_at_once_in_the_order_of_their_lines() -> None:
    text = change("  rto: 4h", "  rto: soon").replace("jobs: 4", "jobs: 99").replace("owner:", "ownr:")
    error = refusal(text)
    assert error.message.splitlines() == [
        "plan.yaml:1: owner: missing",
        "plan.yaml:3: ownr: unknown key",
        "plan.yaml:9: recovery.jobs: expected at most 64, got 99",
        "plan.yaml:31: objectives.rto: expected a number and a unit (ms, s, min, h, d) such as 15min, got 'soon'",
    ]


@pytest.mark.parametrize(
    "new",
    [
        f"password: {SECRET}",
        f"password: '{SECRET} env:X'",
        f"password: [{SECRET}]",
        f"password: {{{SECRET}: 1}}",
        f"password: !{SECRET} x",
        f"password: !{SECRET}!x y",
        f"password: &{SECRET} x",
        f"password: *{SECRET}",
        f"password: vault:{SECRET}",
        f"password: file:{SECRET}",
        f'password: "{SECRET}\\u202e"',
        f"password:{SECRET}",
        f"password: env:X\n  {{password:{SECRET}}}: 1",
        f"password: env:X\n  ? password:{SECRET}",
        f"passwort: {SECRET}",
    ],
)
def test_a_secret_in_the_place_of_a_reference_is_refused_and_not_repeated(new: str) -> None:
    error = refusal(change("password: env:BILLING_PASSWORD", new))
    assert SECRET not in str(error)
    assert error.message.startswith(("plan.yaml:6", "plan.yaml:7"))


def test_a_password_of_digits_is_refused_and_not_repeated() -> None:
    assert "8675309" not in str(refusal(change("env:BILLING_PASSWORD", "8675309")))


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://me:{SECRET}@db/billing",
        f"postgresql://me:{SECRET}@[/billing",
        f"postgresql://db/billing?password={SECRET}",
        f"postgresql://db/billing?sslpassword={SECRET}",
        f"host=db dbname=billing password={SECRET}",
        f"host=db dbname=billing password='{SECRET}",
        f"postgresql://me:5432/{SECRET}@db/billing",
        f"postgresql://me:{SECRET}/x@db/billing",
        f"postgresql://me:x@{SECRET}@db/billing",
        f"me:{SECRET}@db",
        f"postgresql://{SECRET}",
    ],
)
def test_a_password_in_the_address_is_refused_and_not_repeated(address: str) -> None:
    error = refusal(change("postgresql://drillbook@db.internal:5432/billing", f'"{address}"'))
    assert error.message.startswith("plan.yaml:5: source.address: ")
    assert SECRET not in str(error)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("0.10", "0.10"),
        ("100000000000000000.01", "100000000000000000.01"),
        ("0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
        (".5", "0.5"),
        ("-7", "-7"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("010", "010"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("1_000.50", "1_000.50"),
        ("12:30", "12:30"),
        ("12:30:00.5", "12:30:00.5"),
        ("2026-01-31", "2026-01-31"),
        ("2026-01-31 10:00:00", "2026-01-31 10:00:00"),
        (".nan", ".nan"),
        ("-.inf", "-.inf"),
        ("1.0e+999999999", "1.0e+999999999"),
        ("9" * 5000, "9" * 5000),
        ("'true'", "true"),
        ("''", ""),
    ],
)
def test_an_expected_value_is_kept_to_the_letter(written: str, text: str) -> None:
    plan = parse_plan(change("expect: 0.10", f"expect: {written}").encode(), "plan.yaml")
    assert plan.checks.invariants[0].expect == text


def test_labels_that_old_yaml_takes_for_something_else_keep_their_letters() -> None:
    text = change("{currency: currency}", "{on: a, 2024: b, no: c, 1.50: d}")
    assert parse_plan(text.encode(), "plan.yaml").checks.totals[0].by == {
        "on": "a",
        "2024": "b",
        "no": "c",
        "1.50": "d",
    }


@pytest.mark.parametrize(
    ("written", "expected"), [("yes", True), ("on", True), ("TRUE", True), ("no", False), ("Off", False)]
)
def test_every_spelling_of_a_yaml_boolean_is_read(written: str, expected: bool) -> None:  # noqa: FBT001 - the expectation
    text = change("row_counts: true", f"row_counts: {written}")
    assert parse_plan(text.encode(), "plan.yaml").checks.row_counts is expected


@pytest.mark.parametrize(
    ("smoke", "message"),
    [
        ("{kind: sql, name: a, sql: SELECT 1, min: 2,\n       max: 1}", "p:11: checks.smoke[0].max: nothing lies"),
        ("{kind: sql, name: a, sql: SELECT 1,\n       expct: 1}", "p:11: checks.smoke[0].expct: unknown key"),
        ("{kind: within, name: a, sql: SELECT 1}", "p:10: checks.smoke[0].limit: missing"),
        ("{kind: command, name: a, run: ls}", "p:10: checks.smoke[0].run: expected a list, got a single value"),
        ("{kind: x, name: a}", "p:10: checks.smoke[0].kind: expected one of 'sql', 'within', 'command', 'http', got"),
        ("{name: a}", "p:10: checks.smoke[0].kind: missing"),
        ("a", "p:10: checks.smoke[0]: expected a mapping, got a single value"),
        ("{kind: http, name: a, url: 'http://u:hunter2@h/'}", "p:10: checks.smoke[0].start: missing: a server that"),
        ("{kind: http, name: a, start: [x],\n       url: 'http://u:hunter2@h:{port}/'}", "p:11: checks.smoke[0].url:"),
    ],
)  # fmt: skip
def test_a_fault_in_an_element_that_depends_on_its_kind_has_its_line_and_its_key(smoke: str, message: str) -> None:
    text = f"""version: 1
database: billing
owner: payments-sre
source:
  address: postgresql://drillbook@db.internal/billing
recovery:
  method: dump
checks:
  smoke:
    - {smoke}
"""
    with pytest.raises(PlanError) as caught:
        parse_plan(text.encode(), "p")
    assert caught.value.message.startswith(message)
    assert "hunter2" not in str(caught.value)
    if "expct" in smoke:
        assert caught.value.hint == "for `expct`, did you mean `expect`?"
