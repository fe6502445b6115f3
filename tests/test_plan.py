"""The rules of the plan, and what is generated from it: the schema and the reference."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from drills.errors import PlanError
from drills.plan import Dump, Plan
from drills.planfile import parse_plan, plan_schema
from drills.plans.negative import DAMAGES
from drills.units import show_duration

ROOT = Path(__file__).parent.parent
GOOD = """\
version: 1
database: billing
owner: payments-sre
source:
  address: postgresql://drillbook@db.internal/billing
recovery:
  method: dump
"""
TOTAL = "    - {name: N, table: t, amount: a}\n"
INVARIANT = "    - {name: N, sql: SELECT 1}\n"
OUTAGE = "  - {kind: kill_server, name: N}\n"


def refusal(text: str) -> str:
    with pytest.raises(PlanError) as caught:
        parse_plan(text.encode(), "p")
    return caught.value.message


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


def fields_of(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every field of the plan, by its path."""
    for name, field in model.model_fields.items():
        yield f"{path}.{name}".removeprefix("."), field
        for inner in models_in(field.annotation):
            yield from fields_of(inner, f"{path}.{name}".removeprefix("."))


FIELDS = dict(fields_of(Plan))


def described(model: type[BaseModel], path: str, told: set[type[BaseModel]]) -> Iterator[str]:
    """Every key by its path, those of a model that stands in several places where it comes first."""
    inner: list[tuple[type[BaseModel], str]] = []
    for name, field in model.model_fields.items():
        full = f"{path}.{name}".removeprefix(".")
        yield full
        inner += [(found, full) for found in models_in(field.annotation) if found not in told]
        told |= {found for found, _ in inner}
    for found, full in inner:
        yield from described(found, full, told)


def test_the_shortest_plan_asks_for_counts_and_tables_and_nothing_else() -> None:
    plan = parse_plan(GOOD.encode(), "p")
    assert (plan.checks.row_counts, plan.checks.tables) == (True, True)
    assert (plan.checks.totals, plan.checks.invariants, plan.outages) == ((), (), ())
    assert (plan.staging.address, plan.objectives.rto, plan.tools) == (None, None, "auto")


def test_a_plan_reads_back_from_the_evidence_as_the_same_plan() -> None:
    plan = parse_plan((GOOD + "objectives: {rto: 90s}\nstaging: {disk_limit: 1.5kB}\n").encode(), "p")
    told = json.loads(plan.canonical())
    assert (told["objectives"]["rto"], told["staging"]["disk_limit"]) == ("90s", "1500B")
    assert Plan.model_validate(told) == plan
    assert Plan.model_validate_json(plan.canonical()) == plan


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ("outages:\n" + OUTAGE + OUTAGE.replace("N", "n"), "p:10: outages[1].name: duplicate name of an outage: 'n'"),
        (
            "outages:\n" + OUTAGE.replace("N", "Restore"),
            "p:9: outages[0].name: 'Restore' is no name for an outage: the checks after it are told by that name",
        ),
        (
            "checks:\n  totals:\n" + TOTAL + "  invariants:\n" + INVARIANT,
            "p:12: checks.invariants[0].name: duplicate name of a check: 'N'",
        ),
        (
            "checks:\n  totals:\n" + TOTAL.replace("N", "Row Counts"),
            "p:10: checks.totals[0].name: duplicate name of a check: 'Row Counts'",
        ),
        (
            "checks:\n  totals:\n    - {name: Rows of t, table: t, amount: a}\n",
            "p:10: checks.totals[0].name: 'Rows of t': what begins with 'rows of ' tells of the rows that differ",
        ),
        (
            "checks: {row_counts: no, tables: no, content: {compare: no}, structure: no, sequences: no, amcheck: no}\n",
            "p:8: checks: no check at all: a drill that asks nothing proves nothing",
        ),
        (
            "staging:\n  password: env:X\n",
            "p:9: staging.password: password without address: the drill makes its own server and needs none",
        ),
        (
            "staging:\n  address: postgresql://s/x\n  disk_limit: 1GB\n",
            "p:10: staging.disk_limit: disk_limit with address: it speaks of a server that the drill makes",
        ),
        (
            "staging:\n  address: postgresql://s/x\noutages:\n" + OUTAGE,
            "p:10: outages: kill_server with staging.address: only a server that the drill made may be killed",
        ),
        (
            "staging:\n  address: postgresql://other@DB.internal:5432/scratch\n",
            "p:9: staging.address: the server is that of source.address: staging is never production",
        ),
        (
            "staging:\n  address: host=db.internal dbname=scratch\n",
            "p:9: staging.address: the server is that of source.address: staging is never production",
        ),
        (
            "negative_control:\n  damages: [lost row, a penny]\n",
            f"p:9: negative_control.damages[1]: 'a penny' is no damage; expected one of: {', '.join(DAMAGES)}",
        ),
        (
            "negative_control:\n  damages: [lost row, lost row]\n",
            "p:9: negative_control.damages[1]: duplicate name of a damage: 'lost row'",
        ),
        (
            "negative_control:\n  damages: []\n",
            "p:9: negative_control.damages: no damage: a control that plants nothing proves nothing",
        ),
        ("tools: embeded\n", "p:8: tools: expected `auto`, `embedded`, or the full path of a folder"),
        ("evidence: {folder: ''}\n", "p:8: evidence.folder: expected a text that is not blank"),
        (
            "controls: [A, '']\n",
            "p:8: controls[1]: expected 1 to 100 characters on one line, without blanks at the ends",
        ),
    ],
)
def test_what_cannot_run_is_refused_with_its_line(added: str, message: str) -> None:
    assert refusal(GOOD + added) == message


def test_a_reference_that_names_production_twice_is_refused() -> None:
    text = GOOD.replace("postgresql://drillbook@db.internal/billing", "env:DATABASE")
    assert "staging is never production" in refusal(text + "staging:\n  address: env:DATABASE\n")


def test_another_port_of_the_same_host_is_another_server() -> None:
    text = GOOD + "staging:\n  address: postgresql://db.internal:5433/scratch\n"
    assert parse_plan(text.encode(), "p").staging.address == "postgresql://db.internal:5433/scratch"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "'(' is not a regular expression: missing ), unterminated subpattern at position 0"),
        (".*", "'.*' accepts every warning"),
        (".", "'.' accepts every warning"),
        ("x|", "'x|' accepts every warning"),
    ],
)
def test_a_pattern_that_accepts_every_warning_or_none_is_refused(pattern: str, message: str) -> None:
    text = GOOD + f"  accept_warnings: [circular, '{pattern}']\n"
    assert refusal(text) == f"p:8: recovery.accept_warnings[1]: {message}"


@pytest.mark.parametrize("key", ["statement_timeout", "lock_timeout"])
@pytest.mark.parametrize("value", ["0s", "0.5ms", "25d"])
def test_a_timeout_that_postgresql_would_take_for_none_or_not_take_is_refused(key: str, value: str) -> None:
    text = GOOD.replace("billing\nrecovery", f"billing\n  {key}: {value}\nrecovery")
    assert refusal(text) == f"p:6: source.{key}: expected 1ms to 24d, got {value}"


@pytest.mark.parametrize(
    "address",
    ["postgresql://h/d", "postgres://u@h:1/d", "host=/run/postgresql dbname=d", "postgresql:///d?host=/tmp", "env:X",
     "aws:prod/billing", "file:/run/secrets/db", "postgresql://a,b:5432/d", "postgresql://u:@h/d"],
)  # fmt: skip
def test_an_address_may_take_every_form_that_libpq_knows(address: str) -> None:
    text = GOOD.replace("postgresql://drillbook@db.internal/billing", f"'{address}'")
    assert parse_plan(text.encode(), "p").source.address == address


@pytest.mark.parametrize(
    "address", ["postgresql://h", "host=h", "dbname=d", "postgresql:///d", "nonsense", "", "h:5432/d"]
)
def test_an_address_without_host_or_database_is_refused(address: str) -> None:
    text = GOOD.replace("postgresql://drillbook@db.internal/billing", f"'{address}'")
    assert refusal(text).startswith("p:5: source.address: expected")


def test_no_value_of_a_plan_stands_in_the_errors_of_pydantic() -> None:
    with pytest.raises(ValidationError) as caught:
        Plan.model_validate({"source": {"address": "postgresql://u:hunter2@h/d", "password": "hunter2"}})
    assert "hunter2" not in str(caught.value)


def test_a_binary_float_is_refused_where_an_exact_value_is_expected() -> None:
    given = parse_plan(GOOD.encode(), "p").model_dump(mode="json")
    given["checks"]["invariants"] = [{"name": "n", "sql": "SELECT 1", "expect": 0.1}]
    with pytest.raises(ValidationError, match="valid string"):
        Plan.model_validate(given)


@pytest.mark.parametrize(("path", "field"), list(fields_of(Plan)))
def test_every_field_has_a_description_and_every_value_an_example_that_it_takes(path: str, field: FieldInfo) -> None:
    assert path
    assert field.description
    assert field.description[0].isupper() or field.description[0] in "`p"
    assert field.description.endswith(".")
    if list(models_in(field.annotation)):
        return
    assert field.examples
    adapter: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
    for example in field.examples:
        adapter.validate_python(example)


def test_the_walk_over_the_fields_reaches_the_deepest() -> None:
    assert {"checks.totals.by", "outages.rto", "recovery.accept_warnings", "staging.disk_limit"} <= set(FIELDS)


def test_the_schema_is_one_that_editors_can_use() -> None:
    schema = plan_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "Drillbook plan"
    assert {model["additionalProperties"] for model in (schema, *schema["$defs"].values())} == {False}
    assert len(schema["$defs"]) >= 9
    text = json.dumps(schema)
    assert '"PT' not in text, "a default is shown as ISO 8601, which no plan may hold"
    assert schema["$defs"]["KillServer"]["properties"]["limit"]["default"] == show_duration(timedelta(minutes=5))
    assert schema["$defs"]["InvariantCheck"]["properties"]["expect"]["type"] == ["string", "number"]
    assert "title" not in schema["properties"]["owner"]


def test_the_schema_takes_a_good_plan_and_refuses_a_bad_one() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = plan_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    good = yaml.safe_load(load_generator().EXAMPLE)
    assert list(validator.iter_errors(good)) == []
    for section, key, value in [
        ("recovery", "job", 4),
        ("recovery", "jobs", "4"),
        ("recovery", "backup_timeout", 4),
        ("recovery", "backup_timeout", "4 hours"),
        ("staging", "disk_limit", 200),
        ("source", "password", "hunter2"),
        ("checks", "totals", [{"name": "n", "table": "t"}]),
    ]:
        bad = {**good, section: {**good[section], key: value}}
        assert len(list(validator.iter_errors(bad))) == 1, (section, key)


def test_the_reference_on_disk_is_what_the_plan_says() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_check_of_the_reference_names_the_command_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = load_generator()
    monkeypatch.setattr(generator, "PAGE", tmp_path / "plan.md")
    assert generator.main(["--check"]) == 1
    assert "run `make docs`" in capsys.readouterr().err
    assert generator.main([]) == 0
    assert generator.main(["--check"]) == 0
    generator.PAGE.write_text(generator.PAGE.read_text() + " ")
    assert generator.main(["--check"]) == 1


def test_the_reference_is_not_written_with_an_example_that_is_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = load_generator()
    monkeypatch.setattr(generator, "EXAMPLE", generator.EXAMPLE.replace("owner:", "ownr:"))
    with pytest.raises(PlanError, match="ownr: unknown key"):
        generator.page()


def test_the_reference_names_every_key_once_and_its_example_shows_all_that_go_together() -> None:
    generator = load_generator()
    rows = [line.split("`")[1].replace("[]", "") for line in generator.page().splitlines() if line.startswith("| `")]
    assert sorted(rows) == sorted(described(Plan, "", set()))
    shown = parse_plan(generator.EXAMPLE.encode(), "p").model_dump(exclude_unset=True)
    assert set(shown) == set(Plan.model_fields)
    for section in ("source", "recovery", "checks", "objectives", "evidence"):
        keys = {path.split(".")[1] for path in FIELDS if path.startswith(f"{section}.")}
        assert set(shown[section]) == (set(Dump.model_fields) if section == "recovery" else keys), section
