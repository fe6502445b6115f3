"""Writes docs/plan.md, the reference of every key of a plan, from the models in `drills.plan`, and docs/checks.md.

`python docs/generate.py` writes them; with `--check` it only says whether the files on disk are what it would write.
The example at the top is read as a plan first, so a reference with an example that does not run cannot be written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from checks_page import checks_page

from drills.planfile import parse_plan, plan_schema
from drills.secrets import REFERENCE_PATTERN
from drills.units import DURATION_PATTERN, SIZE_PATTERN

PAGE = Path(__file__).with_name("plan.md")
CHECKS = Path(__file__).with_name("checks.md")

EXAMPLE = """\
version: 1
database: billing
owner: payments-sre
requester: controls@example.com
controls: [SOC2-A1.3, DORA-12.6]

source:
  address: postgresql://drillbook@db.internal:5432/billing
  password: env:BILLING_PASSWORD
  writable_role: refuse
  statement_timeout: 30min
  lock_timeout: 5s
  load:
    max_active: 50
    max_lag: 30s
    patience: 10min

recovery:
  method: dump
  jobs: 4
  compression: gzip
  backup_timeout: 4h
  restore_timeout: 8h
  accept_warnings:
    - circular foreign-key constraints

staging:                     # no address: the drill makes a server of its own
  disk_limit: 200GB

checks:
  row_counts: true
  content:
    digest: fast
    leave_out:
      - table: public.session_cache
        reason: emptied by every release
  tables: true
  structure: true
  sequences: true
  unlogged: true
  may_be_empty: []           # tables, each with its reason, where the copy is of another time
  totals:
    - name: invoices by currency and month
      table: billing.invoice
      amount: amount
      by:
        currency: currency
        month: date_trunc('month', posted_at)
      where: status <> 'draft'
    - name: ledger by currency
      table: billing.posting
      amount: amount
      by:
        currency: currency
      sign:
        column: side
        positive: [D]
        negative: [C]
      closed:
        column: posted_at
        until: end of previous month
      tolerance:
        within: 0.05
        justification: the warehouse rounds each line to a cent
      control:
        csv_file:
          path: /srv/controls/ledger-2026-10.csv
          sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
        amount: balance
  ledger:
    - kind: subledger_equals_control
      name: receivables equal their account
      subledger:
        table: billing.invoice
        amount: open_amount
        by:
          currency: currency
      control_account:
        table: billing.balance
        amount: amount
        by:
          currency: currency
        where: account = 1200
  invariants:
    - name: every journal entry balances
      sql: SELECT entry FROM billing.posting GROUP BY entry HAVING sum(amount) <> 0
      expect: no rows
    - name: suspense account is empty
      sql: SELECT coalesce(sum(amount), 0.00) FROM billing.posting WHERE account = 9999
      expect: 0.00

  amcheck: true
  checksums: true
  smoke:
    - kind: sql
      name: entries of the last day
      sql: SELECT count(*) FROM billing.posting WHERE posted_at > now() - interval '1 day'
      min: 1
    - kind: within
      name: customer search
      sql: SELECT * FROM billing.customer WHERE lower(name) LIKE 'smith%' ORDER BY name LIMIT 50
      limit: 500ms
    - kind: command
      name: ledger self-test
      run: [/srv/ledger/bin/selftest, --read-only]
      matches: ^[0-9]+ accounts, 0 faults$
    - kind: http
      name: billing front page
      start: [/srv/billing/bin/serve, --workers, "1"]
      url: http://127.0.0.1:{port}/health
      contains: '"database":"up"'
      limit: 2min

negative_control:
  enabled: true
  damages: [one cent, swapped amounts, lost row, duplicated row, dropped index, disabled trigger, sequence behind]
  limit: 15min

outages:
  - kind: kill_server
    name: server killed
    writers: 2
    steady: 10s
    down: 30s
    limit: 5min
    rto: 1min
    rpo: 0s

objectives:
  rto: 4h
  rpo: 15min

evidence:
  folder: /srv/evidence

tools: auto
"""

HEAD = """\
<!-- Written by docs/generate.py from drills/plan.py: change it there, then run `make docs`. -->
# The plan

A plan is a YAML file that declares one drill. It is reviewed in git, and the evidence holds its bytes, its digest and
its commit. This one is complete; only the keys marked *required* below have to be given:

```yaml
{example}```

What a plan does not do, so that nobody reads one thing while the program does another: keys it does not know, keys
given twice, anchors, aliases, tags and invisible characters are errors, each with its line. A duration or a size always
has its unit: `ms`, `s`, `min`, `h`, `d`; `B`, `kB`, `MB`, `GB`, `TB` (of 1000). A secret never stands in a plan; a
reference to it does: `env:NAME`, `file:/path`, or `aws:NAME` (AWS Secrets Manager).

`drillbook plan schema` prints the JSON Schema of this page. Editors that know YAML complete and check a plan that
begins with `# yaml-language-server: $schema=plan.schema.json`.
"""

_FORMS: Mapping[str, str] = MappingProxyType(
    {DURATION_PATTERN: "duration", SIZE_PATTERN: "size", REFERENCE_PATTERN: "reference"}
)
_TYPES: Mapping[str, str] = MappingProxyType(
    {"string": "text", "number": "number", "integer": "whole number", "boolean": "true or false"}
)


def page() -> str:
    """The whole reference.

    Raises:
        PlanError: the example is not a plan.
    """
    parse_plan(EXAMPLE.encode(), "the example in docs/generate.py")
    schema = plan_schema()
    return "\n".join([HEAD.format(example=EXAMPLE), *_section("", schema, schema["$defs"], {})])


def _section(
    path: str, model: dict[str, Any], models: dict[str, Any], told: dict[str, str], kind: str = ""
) -> Iterator[str]:
    """The table of one model, then the sections inside it, in the order of its keys.

    `told` has the models that have been described, with their paths: a second time they are only pointed to.
    """
    yield f"## `{path}`{kind}\n" if path else "## The top level\n"
    yield f"{model['description']}\n"
    yield "| Key | Type | Default | Description | Example |"
    yield "|---|---|---|---|---|"
    inner: list[tuple[str, dict[str, Any], str]] = []
    for key, field in model["properties"].items():
        full = f"{path}.{key}".removeprefix(".")
        section = _reference_in(field)
        place = full + ("[]" if field.get("type") == "array" else "")
        elsewhere = section and told.get(section, place) != place
        if section and section not in told:
            told[section] = place
            inner.append((place, models[section], ""))
        tag = _discriminator(field).get("propertyName", "")
        kinds = {kind: name for kind, name in _kinds_in(field).items() if name not in told}
        told |= dict.fromkeys(kinds.values(), full)
        kin = [models[name] for name in kinds.values()]
        inner += [(place, _own_first(models[name], kin), f" of {tag} `{kind}`") for kind, name in kinds.items()]
        default = "its own defaults" if "$ref" in field else _value(field.get("default"))
        default = "*required*" if key in model.get("required", []) else default
        example = "" if section or _kinds_in(field) else _value(field["examples"][0])
        # pydantic leaves a description out where the section's own says the same.
        description = field.get("description") or models[section]["description"]
        description += f" Its keys are those of `{told[section]}`." if elsewhere else ""
        row = (f"`{full}`", _type(field), default, description, example)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    yield ""
    for full, section_model, of_kind in inner:
        yield from _section(full, section_model, models, told, of_kind)


def _own_first(model: dict[str, Any], kin: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The same with those keys in front that tell it from its kin: what may be left out of each of them comes last."""
    shared = set.intersection(*(set(one["properties"]) for one in kin))

    def rank(key: str) -> int:
        if "const" in model["properties"][key]:
            return 0
        return 1 if key in model.get("required", []) else 2 if key not in shared else 3

    return {**model, "properties": {key: model["properties"][key] for key in sorted(model["properties"], key=rank)}}


def _reference_in(field: dict[str, Any]) -> str:
    """The name of the model that a key holds, one or several of."""
    for part in (field, field.get("items", {}), *field.get("anyOf", [])):
        if "$ref" in part:
            return str(part["$ref"]).rsplit("/", 1)[-1]
    return ""


def _discriminator(field: dict[str, Any]) -> dict[str, Any]:
    """By what the models of a key, or of its elements, are told apart."""
    found: dict[str, Any] = field.get("discriminator", field.get("items", {}).get("discriminator", {}))
    return found


def _kinds_in(field: dict[str, Any]) -> dict[str, str]:
    """Where the model depends on its kind: each kind, and the name of its model."""
    mapping = _discriminator(field).get("mapping", {})
    return {kind: reference.rsplit("/", 1)[-1] for kind, reference in mapping.items()}


def _type(field: dict[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_type(part) for part in field["anyOf"] if part.get("type") != "null")
    if "const" in field or "enum" in field:
        return " or ".join(_value(choice) for choice in field.get("enum", [field.get("const")]))
    if "$ref" in field or "discriminator" in field:
        return "section"
    if field["type"] == "array":
        return f"list of {_type(field['items'])}s"
    if field["type"] == "object":
        return "mapping of text to text"
    return _FORMS.get(field.get("pattern", ""), _plain(field))


def _plain(field: dict[str, Any]) -> str:
    kinds = [field["type"]] if isinstance(field["type"], str) else field["type"]
    bounds = f", {field['minimum']} to {field['maximum']}" if "minimum" in field else ""
    return " or ".join(_TYPES[kind] for kind in kinds) + bounds


def _value(value: object) -> str:
    """A value as YAML would take it."""
    if value is None or value in ([], {}):
        return "none"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def main(arguments: list[str]) -> int:
    """Write the pages, or say whether they are as they should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a page on disk differs")
    check = parser.parse_args(arguments).check
    pages = {PAGE: page(), CHECKS: checks_page()}
    stale = [path for path, wanted in pages.items() if not _is(path, wanted)]
    for path in stale:
        if not check:
            path.write_text(pages[path], encoding="utf-8")
            print(f"wrote {path}")
        else:
            print(f"{path} is not what it is written from: run `make docs` and commit the result", file=sys.stderr)
    return 1 if stale and check else 0


def _is(path: Path, wanted: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == wanted


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
