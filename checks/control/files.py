"""Control totals in files: CSV, Excel and JSON.

Guarantees that what is read is what was reviewed: the digest is taken over the very bytes that are read.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from checks.control.records import Records, Writing
from drills.errors import CheckError
from drills.plans.control import CsvControl, ExcelControl, JsonControl

LARGEST = 512 * 1024 * 1024
"""Bytes. A control holds totals; what is larger is some other file."""


def read_file(origin: CsvControl | ExcelControl | JsonControl) -> Records:
    """The records of a file.

    Raises:
        CheckError: it is not there, is another file than the plan names, or is not what the plan says it is.
    """
    content = _content(origin.path, origin.sha256)
    if isinstance(origin, CsvControl):
        return _csv(origin, content)
    if isinstance(origin, ExcelControl):
        return _excel(origin, content)
    return _json(origin, content)


def _content(path: str, expected: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        raise CheckError(f"the control {path} cannot be read: {error}") from None
    if len(content) > LARGEST:
        raise CheckError(f"the control {path} is larger than {LARGEST} bytes")
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise CheckError(
            f"the control {path} is another file than the plan names: expected sha256 {expected}, got {found}",
            hint="have the new file reviewed, and put its digest into the plan",
        )
    return content


def _csv(origin: CsvControl, content: bytes) -> Records:
    try:
        text = content.decode("utf-8-sig" if origin.encoding == "utf-8" else origin.encoding)
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=origin.delimiter, strict=True)
        header, *rows = [(lines.line_num, row) for row in lines if row] or [(1, [])]
    except (UnicodeDecodeError, csv.Error) as error:
        raise CheckError(f"the control {origin.path} is not CSV in {origin.encoding}: {error}") from None
    columns = header[1]

    def records() -> Iterator[tuple[str, Mapping[str, object]]]:
        for number, row in rows:
            if len(row) != len(columns):
                raise CheckError(f"line {number}: expected {len(columns)} fields, got {len(row)}")
            cells = dict(zip(columns, row, strict=True))
            yield f"line {number}", {key: None if cell == origin.null else cell for key, cell in cells.items()}

    return Records(columns, records(), Writing(origin.decimal_mark, origin.thousands_mark or ""))


def _excel(origin: ExcelControl, content: bytes) -> Records:
    import openpyxl  # noqa: PLC0415 - slow to import, and rarely wanted

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it cannot keep when it writes; it writes nothing here
            # The values that Excel has computed, not the formulas.
            book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
            sheets = {sheet.title: sheet for sheet in book.worksheets}
            rows = [] if origin.sheet not in sheets else _cells(sheets[origin.sheet])
            book.close()
    except Exception as error:  # noqa: BLE001 - it raises whatever a file that is none makes it stumble over
        raise CheckError(f"the control {origin.path} is not an Excel file: {type(error).__name__}: {error}") from None
    if origin.sheet not in sheets:
        raise CheckError(f"no sheet {origin.sheet!r} in {origin.path}; there are: {', '.join(sheets)}")
    columns = ["" if cell is None else str(cell).strip() for cell in dict(rows).get(origin.header, ())]
    below = ((number, row) for number, row in rows if number > origin.header)
    records = ((f"row {number}", dict(zip(columns, row, strict=False))) for number, row in below)
    return Records(columns, records, Writing(origin.decimal_mark), binary=True)


def _cells(sheet: Any) -> list[tuple[int, tuple[object, ...]]]:  # noqa: ANN401 - openpyxl has no types
    """The rows that are not blank, with their numbers."""
    sheet.reset_dimensions()  # what programs write there is often wrong
    rows = enumerate(sheet.iter_rows(values_only=True), 1)
    width = 0
    found = [(number, row) for number, row in rows if any(cell is not None for cell in row)]
    width = max((len(row) for _, row in found), default=0)
    return [(number, (*row, *[None] * (width - len(row)))) for number, row in found]


def _json(origin: JsonControl, content: bytes) -> Records:
    try:
        found: Any = json.loads(
            content, parse_float=Decimal, parse_constant=_no_number, object_pairs_hook=_once, strict=True
        )
    except (ValueError, RecursionError) as error:
        raise CheckError(f"the control {origin.path} is not JSON: {error}") from None
    for key in origin.records.split(".") if origin.records else ():
        if not isinstance(found, dict) or key not in found:
            raise CheckError(f"no key {key!r} in {origin.path} on the way to {origin.records}")
        found = found[key]
    if not isinstance(found, list) or not all(isinstance(record, dict) for record in found):
        raise CheckError(f"expected a list of records in {origin.path}", hint="`records` says where the list is")
    columns: Sequence[str] = list(dict.fromkeys(key for record in found for key in record))

    def records() -> Iterator[tuple[str, Mapping[str, object]]]:
        for number, record in enumerate(found, 1):
            lacking = [key for key in columns if key not in record]
            # A key that is left out is no NULL: nobody said so.
            yield f"record {number}", record | {key: _Absent() for key in lacking}

    return Records(columns, records(), Writing())


class _Absent:
    """A key that a record does not have."""


def _no_number(name: str) -> object:
    raise ValueError(f"{name} is no number of JSON")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object whose keys stand once."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found
