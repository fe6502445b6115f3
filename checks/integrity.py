"""Whether the copy is physically sound: its indexes agree with its tables, its pages with their checksums.

PostgreSQL answers both itself: amcheck walks every B-tree, holds it against its table, and walks every heap with its
TOAST; pg_prewarm has the server read every page, which verifies the checksum. Guarantees that one damaged object hides
no other (see `checks.going_over`), that a copy without a page of its own passes nothing, and that the copy is left as
it was (see `checks.borrowed`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from checks.asking import Log, OpenSession
from checks.base import ACTUAL, DIFFERENCE, EXPECTED, VERDICT, Answer, Question, frame, named
from checks.borrowed import borrowed
from checks.going_over import OBJECTS, Finding, Paged, go_over, list_objects
from checks.sharing import Advance
from drills.errors import CheckError
from drills.records import Basis, Verdict

AMCHECK, CHECKSUMS = "amcheck", "page checksums"
_KEYS = ("object", "kind")
_AMCHECK = """
            IF (SELECT relkind FROM pg_catalog.pg_class WHERE oid = object) = 'i' THEN
                PERFORM {tool}.bt_index_check(object::regclass, true);
            ELSE
                SELECT count(*), coalesce(string_agg(format('block %s, item %s: %s', blkno, offnum, msg), '; ')
                           FILTER (WHERE place <= 3), '')
                  INTO faults, said
                  FROM {tool}.verify_heapam(object::regclass, on_error_stop => false, check_toast => true)
                       WITH ORDINALITY AS found (blkno, offnum, attnum, msg, place);
            END IF;"""
_READ = """
            FOREACH fork IN ARRAY ARRAY['main', 'fsm', 'vm', 'init'] LOOP
                IF pg_catalog.pg_relation_size(object, fork) > 0 THEN
                    PERFORM {tool}.pg_prewarm(object::regclass, 'buffer', fork);
                END IF;
            END LOOP;"""
_FAILURES = """
SELECT coalesce(datname::text, 'the catalogue that all databases share'), checksum_failures
  FROM pg_stat_database WHERE checksum_failures > 0 ORDER BY 1
"""


def integrity_questions(
    open_session: OpenSession,
    log: Log,
    advance: Advance,
    *,
    amcheck: bool,
    checksums: bool,
    only: frozenset[str] | None = None,
) -> Iterator[Question]:
    """What is to be asked of a copy's pages.

    Args:
        open_session: gives sessions on the copy that may write: what they write is rolled back.
        log: of the statements.
        advance: told after each statement; what it raises ends the check.
        amcheck: whether to ask for indexes and heaps.
        checksums: whether to ask for checksums, which only a physical copy has from production.
        only: the tables whose indexes and heaps are asked for, by their names for people; None for all.
    """
    if amcheck:
        yield Question(
            AMCHECK,
            "amcheck",
            Basis.NONE,
            [OBJECTS.strip(), _AMCHECK.strip()],
            lambda: verify_relations(open_session, log, advance, only),
        )
    if checksums:
        yield Question(
            CHECKSUMS,
            "checksums",
            Basis.NONE,
            [OBJECTS.strip(), _READ.strip(), _FAILURES.strip()],
            lambda: compare_checksums(open_session, log, advance),
        )


def verify_relations(
    open_session: OpenSession, log: Log, advance: Advance, only: frozenset[str] | None = None
) -> Answer:
    """Every valid B-tree held against its table, and every heap with its TOAST, those of the catalogue too.

    With `only`, those of these tables.

    Raises:
        CheckError: amcheck cannot be had, or there is nothing for it.
        ConnectError: the copy cannot be reached.
    """
    with open_session() as connection, borrowed(connection, log, AMCHECK, "amcheck") as tool:
        objects = [one for one in list_objects(connection, log, AMCHECK) if only is None or one.table in only]
        wanted = [one for one in objects if not one.left_out]
        _refuse_nothing(wanted)
        found = go_over(connection, log, AMCHECK, _AMCHECK, tool, wanted, advance)
    left_out = Counter(one.left_out for one in objects if one.left_out)
    more = "; amcheck has nothing for " + ", ".join(f"{n} {what}" for what, n in left_out.items()) if left_out else ""
    return _answer(found, "B-trees and heaps", more)


def compare_checksums(open_session: OpenSession, log: Log, advance: Advance) -> Answer:
    """Every page of the database read, and the server's own count of checksums that were wrong.

    A page that lies in shared buffers already was verified when it came there; the count goes back as far.

    Raises:
        CheckError: the copy has no checksums, or its pages cannot be read.
        ConnectError: the copy cannot be reached.
    """
    with open_session() as connection:
        if log.ask(connection, f"{CHECKSUMS}: whether there are any", "SHOW data_checksums")[0][0] != "on":
            raise CheckError(
                "the copy's pages have no checksums: what a disk or a backup spoilt cannot be seen by them",
                hint="turn them on in production (pg_checksums --enable), or leave it out with `checksums: false`",
            )
        with borrowed(connection, log, CHECKSUMS, "pg_prewarm") as tool:
            wanted = [one for one in list_objects(connection, log, CHECKSUMS) if one.size]
            _refuse_nothing(wanted)
            found = go_over(connection, log, CHECKSUMS, _READ, tool, wanted, advance)
        failures = log.ask(connection, f"{CHECKSUMS}: failures", _FAILURES)
    counted = [
        Finding(Paged(0, name, "database", 0, own=True, left_out=""), Verdict.FAIL, f"{count} checksum failures")
        for name, count in failures
    ]
    return _answer([*found, *counted], "relations", "")


def _refuse_nothing(objects: Sequence[Paged]) -> None:
    if not any(one.own and one.size for one in objects):
        raise CheckError("the copy has no page of its own: there was nothing to look at")


def _answer(found: Sequence[Finding], things: str, more: str) -> Answer:
    table = frame([finding.row for finding in found], [*_KEYS, EXPECTED, ACTUAL, DIFFERENCE, VERDICT])
    verdict = Verdict.worst(table[VERDICT])
    bad = [finding for finding in found if finding.verdict is verdict]
    looked = len({finding.thing.oid for finding in found})
    own = sum(finding.thing.own for finding in found)
    if verdict is Verdict.PASS:
        reason = f"all {looked} {things} are sound, {own} of them the copy's own{more}"
    else:
        fault = "damaged" if verdict is Verdict.FAIL else "not looked at"
        reason = f"{named([finding.thing.name for finding in bad])}: {fault}: {bad[0].said}{more}"
    count = Counter(finding.verdict for finding in found)
    return Answer(
        verdict,
        reason,
        expected=f"{len(found)} {things} sound",
        actual=f"{count[Verdict.PASS]} sound, {count[Verdict.FAIL]} damaged, {count[Verdict.UNKNOWN]} not looked at",
        difference=f"{len(found) - count[Verdict.PASS]} not sound" if verdict is not Verdict.PASS else "none",
        frame=table,
        keys=_KEYS,
    )
