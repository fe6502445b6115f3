"""The part of a plan that says where a control total is: a file of another system, or a query to it.

Owns the models and every rule between their keys. Refuses a file without its digest, which would be whatever lies there
on the day of the drill, and a password inside an address. Reading them is `checks.control.compare`.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, Field, model_validator

from drills.fields import Period, Reference, Text, Title
from drills.plans.section import Section, fault
from drills.secrets import REFERENCE

_DIGEST = re.compile(r"[0-9a-f]{64}")
_BELONGS = "write the password as a reference under `password:`"
_SECRET_KEYS = re.compile(r"pass|pwd|secret|token|credential", re.IGNORECASE)


def _digest(value: str) -> str:
    if not _DIGEST.fullmatch(value):
        raise ValueError("expected 64 hexadecimal digits in lowercase, as `sha256sum` prints them")
    return value


def _url(value: str) -> str:
    """An address of SQLAlchemy's kind without a password in it, or a reference to one. No error repeats it."""
    if REFERENCE.fullmatch(value):
        return value
    try:
        parts = urlsplit(value)
    except ValueError:
        parts = urlsplit("")
    if not re.match(r"[a-z][a-z0-9]*(\+[a-z][a-z0-9_]*)?://", value):
        raise ValueError("expected an address such as postgresql://role@host:5432/database, or a reference to one")
    keys = [key for key, _ in parse_qsl(parts.query, keep_blank_values=True)]
    # user:pass/word@host is read as host "user"; no host, path or key of ours has an @ of its own.
    if ":" in parts.netloc.rpartition("@")[0] or "@" in parts.path + parts.query + parts.fragment:
        raise ValueError(f"the address holds a password, or seems to; {_BELONGS}")
    if any(_SECRET_KEYS.search(key) for key in keys):
        raise ValueError(f"the address holds a password; {_BELONGS}")
    return value


Digest = Annotated[str, AfterValidator(_digest)]
DecimalMark = Literal[".", ","]


class _File(Section):
    path: Text = Field(
        description="The file, by its full path or from the folder in which the drill is started.",
        examples=["/srv/controls/ledger-2026-10.csv"],
    )
    sha256: Digest = Field(
        description="Its digest, as `sha256sum` prints it. Another file than the one that was reviewed is UNKNOWN.",
        examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
    )


class CsvControl(_File):
    """A CSV file whose first line names the columns."""

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = Field(
        ",", description="What stands between two fields.", examples=[";"]
    )
    decimal_mark: DecimalMark = Field(".", description="What stands before the cents.", examples=[","])
    thousands_mark: Literal[".", ",", "'", " "] | None = Field(
        None, description="What stands between groups of three digits, where something does.", examples=["."]
    )
    encoding: Literal["utf-8", "latin-1", "cp1252", "utf-16"] = Field(
        "utf-8", description="How the file holds its letters.", examples=["latin-1"]
    )
    null: str | None = Field(
        None, description="What stands in a group's field for NULL, where something does.", examples=["NULL"]
    )

    @model_validator(mode="after")
    def _marks_differ(self) -> Self:
        if self.thousands_mark == self.decimal_mark:
            raise fault("the same as `decimal_mark`", "thousands_mark")
        return self


class ExcelControl(_File):
    """A sheet of an Excel file (.xlsx). Its numbers are binary: only those of up to 15 digits are exact."""

    sheet: Text = Field(description="The sheet.", examples=["Balances"])
    header: int = Field(1, ge=1, le=1000, description="The row that names the columns.", examples=[3])
    decimal_mark: DecimalMark = Field(
        ".", description="What stands before the cents in cells that are text.", examples=[","]
    )


class JsonControl(_File):
    """A JSON file with a list of records."""

    records: Text | None = Field(
        None,
        description="Where the list is: keys from the top down, with dots between them. Without it the file is the "
        "list.",
        examples=["report.balances"],
    )


class QueryControl(Section):
    """A query to another database, such as an ERP or a warehouse. It is only read."""

    url: Annotated[str, AfterValidator(_url)] = Field(
        description="Where it is, as SQLAlchemy writes it, without a password; or a reference to such an address.",
        examples=["postgresql+psycopg://reader@warehouse.internal:5432/finance"],
    )
    password: Reference | None = Field(
        None, description="Reference to the role's password.", examples=["env:WAREHOUSE_PASSWORD"]
    )
    sql: Text = Field(
        description="One SELECT. `:closed` in it is the end of the total's period, as a text.",
        examples=["SELECT currency, sum(amount) AS amount FROM fact_invoice GROUP BY currency"],
    )
    statement_timeout: Period = Field(
        timedelta(minutes=5), description="The longest that it may run.", examples=["1min"]
    )


class Control(Section):
    """A total as another system has it: exactly one of `csv_file`, `excel_file`, `json_file` and `query`."""

    csv_file: CsvControl | None = Field(None, description="A CSV file.")
    excel_file: ExcelControl | None = Field(None, description="An Excel file.")
    json_file: JsonControl | None = Field(None, description="A JSON file.")
    query: QueryControl | None = Field(None, description="A query to another database.")
    amount: Text = Field(description="The column that holds the amount.", examples=["balance"])
    by: dict[Title, Text] = Field(
        default_factory=dict,
        description="The columns that hold the total's groups, by their labels. A label that is not here is the "
        "column's own name. Several records of one group are added up.",
        examples=[{"currency": "CCY"}],
    )
    reversed: bool = Field(
        default=False,
        description="Whether the other system counts with the opposite sign: credits as positive amounts.",
        examples=[True],
    )

    @property
    def origin(self) -> CsvControl | ExcelControl | JsonControl | QueryControl:
        """Where it comes from."""
        (found,) = self._given()
        return found

    def _given(self) -> list[CsvControl | ExcelControl | JsonControl | QueryControl]:
        return [origin for origin in (self.csv_file, self.excel_file, self.json_file, self.query) if origin is not None]

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if len(self._given()) != 1:
            raise fault(
                f"expected one of `csv_file`, `excel_file`, `json_file` and `query`, got {len(self._given()) or 'none'}"
            )
        return self
