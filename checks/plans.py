"""What a statement reads, as the server plans it.

Refuses a statement that reads a foreign table, directly or through a view, a partition or a function: a backup holds
the table's definition only, so that source and copy would both read the same remote rows, and always agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from checks.asking import Log
from checks.names import qualified
from drills.errors import CheckError

_LOCKED = """
SELECT n.nspname::text, c.relname::text
  FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND c.relkind IN ('r', 'p', 'm')
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""
_FOREIGN_LOCKED = """
SELECT n.nspname::text, c.relname::text
  FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND c.relkind = 'f'
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
"""The foreign tables that this transaction has opened, be it only to find that a partition need not be read."""


@contextmanager
def reading_no_foreign_table(
    connection: psycopg.Connection, log: Log, name: str, statement: str
) -> Iterator[set[tuple[str, str]]]:
    """For a statement that is put in its body; gives schema and name of every table in the statement's plan.

    What a function reads is in no plan, but locked afterwards.

    Raises:
        CheckError: the server cannot plan it, or it reads a foreign table.
    """
    nodes = list(_nodes(log.ask(connection, f"{name}: EXPLAIN", f"EXPLAIN (VERBOSE, FORMAT JSON) {statement}")[0][0]))
    # Joins and aggregates that the remote server does itself have no one relation, but a text: "Aggregate on (far)".
    _refuse({_read_by(node) for node in nodes if str(node["Node Type"]).startswith("Foreign")})
    opened = _foreign_locked(connection, log, name)
    yield {
        (str(node["Schema"]), str(node["Relation Name"])) for node in nodes if {"Schema", "Relation Name"} <= {*node}
    }
    # A statement cancelled for its many rows leaves a transaction that answers nothing more; nor did it pass.
    if connection.info.transaction_status is not TransactionStatus.INERROR:
        _refuse(_foreign_locked(connection, log, name) - opened)


def tables_read(
    connection: psycopg.Connection, log: Log, name: str, planned: set[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Schema and name of every table that a statement reads, inside `reading_no_foreign_table`.

    Its plan names those that will be read, and the locks that planning took those which the statement names: the
    planner leaves out a table where a constraint already answers for it. Asked after the statement, the locks name
    those as well that its functions have read. Of a statement that was cancelled only the plan is known.
    """
    if connection.info.transaction_status is TransactionStatus.INERROR:
        return sorted(planned)
    locked = log.ask(connection, f"{name}: its tables", _LOCKED)
    return sorted({*planned, *((schema, table) for schema, table in locked)})


def _nodes(plan: object) -> Iterator[dict[str, Any]]:
    """Every node of a plan (EXPLAIN's JSON), those of its subplans too."""
    if isinstance(plan, list):
        for part in plan:
            yield from _nodes(part)
    if isinstance(plan, dict):
        if "Node Type" in plan:
            yield plan
        yield from _nodes(list(plan.values()))


def _read_by(node: dict[str, Any]) -> str:
    if {"Schema", "Relation Name"} <= {*node}:
        return qualified(str(node["Schema"]), str(node["Relation Name"]))
    return str(node.get("Relations", "behind a foreign scan"))


def _foreign_locked(connection: psycopg.Connection, log: Log, name: str) -> set[str]:
    return {qualified(*table) for table in log.ask(connection, f"{name}: its foreign tables", _FOREIGN_LOCKED)}


def _refuse(foreign: set[str]) -> None:
    if foreign:
        tables = "table" if len(foreign) == 1 else "tables"
        raise CheckError(
            f"reads the foreign {tables} {', '.join(sorted(foreign))}, which no backup holds",
            hint="source and copy would read the same remote rows; leave it out, or drill the server that holds it",
        )
