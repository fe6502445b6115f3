"""The proof that a copy stands at the point of a snapshot: the copy's own account of each transaction.

Owns the questions to the copy, in one statement, and the judgement of its answers. Guarantees that an alignment is not
called proved because recovery was told where to stop: every transaction that the snapshot does not see was asked for,
and the last commits that it sees were, and replay says where it ended. An answer that is missing proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from drills.commits import Aligned, Alignment, View
from drills.errors import ConnectError
from drills.records import Verdict
from drills.targets import Recovered
from drills.wal import parse_lsn, show_lsn

_ASK = """
WITH here AS MATERIALIZED (
    SELECT %(next)s::text::xid8 AS next, (SELECT system_identifier::text FROM pg_control_system()) AS system),
asked AS (
    SELECT 'hidden' AS kind, x::xid8 AS xid FROM unnest(%(hidden)s::text[]) AS x
     UNION
    SELECT 'hidden', x::text::xid8 FROM here, generate_series(%(xmax)s::bigint, here.next::text::bigint - 1) AS x
     UNION
    SELECT 'seen', x::xid8 FROM unnest(%(seen)s::text[]) AS x),
answered AS (
    SELECT asked.kind, asked.xid,
           CASE WHEN asked.xid < here.next THEN coalesce(pg_xact_status(asked.xid), 'forgotten')
                ELSE 'never' END AS answer
      FROM asked, here),
counted AS (
    SELECT kind, answer, count(*) AS number, (array_agg(xid::text ORDER BY xid))[1:5] AS examples
      FROM answered GROUP BY kind, answer)
SELECT here.system, counted.kind, counted.answer, counted.number, counted.examples
  FROM here LEFT JOIN counted ON true
 ORDER BY counted.kind, counted.answer
"""
"""A number from xmax on belongs to nobody whom this statement could see as committed; asking for one that was never
given out would be an error."""

_WAITED = (
    "; if the source has synchronous standbys, these may have waited for one since before the backup: grant the"
    " source's role pg_read_all_stats, with which such snapshots are passed over"
)


@dataclass(frozen=True)
class _Answer:
    kind: str
    answer: str
    number: int
    examples: tuple[str, ...]


def prove_alignment(connection: psycopg.Connection, aligned: Aligned, recovered: Recovered) -> Alignment:
    """Ask the copy which transactions it holds, in one statement, and judge the answers.

    Args:
        connection: to the copy.
        aligned: where its recovery was told to stop, and for which snapshot.
        recovered: where it stopped, as its files said before anybody worked with it: from then on its own
            transactions would count as production's.

    Raises:
        ConnectError: the copy gave no row.
        psycopg.Error: it could not be asked.
    """
    view = View.parse(aligned.snapshot)
    hidden = view.running | {commit.xid for commit in aligned.behind}
    parameters = {
        "hidden": [str(xid) for xid in sorted(hidden)],
        "xmax": view.xmax,
        "seen": [str(commit.xid) for commit in aligned.recent],
        "next": str(recovered.next_xid),
    }
    rows = connection.execute(_ASK, parameters).fetchall()
    if not rows:
        raise ConnectError("the copy gave no row where there is always one")
    answers = [_Answer(row[1], row[2], row[3], tuple(row[4])) for row in rows if row[1] is not None]
    verdict, reason = _judge(aligned, answers, recovered, str(rows[0][0]))
    return Alignment(
        snapshot=aligned.snapshot,
        noted=aligned.noted,
        start=aligned.start,
        timeline=aligned.timeline,
        target=aligned.target,
        inclusive=aligned.inclusive,
        seen=aligned.seen,
        behind=len(aligned.behind),
        first_behind=str(aligned.behind[0]) if aligned.behind else "",
        replayed=recovered.end_lsn,
        next_xid=recovered.next_xid,
        hidden_asked=sum(answer.number for answer in answers if answer.kind == "hidden"),
        hidden={answer.answer: answer.number for answer in answers if answer.kind == "hidden"},
        seen_asked=len(aligned.recent),
        seen_answers={answer.answer: answer.number for answer in answers if answer.kind == "seen"},
        verdict=verdict,
        reason=reason,
        sql=_ASK.strip(),
    )


def _judge(aligned: Aligned, answers: Sequence[_Answer], recovered: Recovered, system: str) -> tuple[Verdict, str]:
    """What the answers prove.

    Of a transaction that the snapshot does not see, `aborted` is right (recovery ended before its commit), as are `in
    progress` (it is prepared, or recovery goes on) and `never`. A number that the copy has forgotten was frozen before
    the copy's point; it proves nothing.
    """
    if system != aligned.system_identifier:
        return Verdict.FAIL, f"expected a copy of system {aligned.system_identifier}, got system {system}"
    for answer in answers:
        if answer.kind == "hidden" and answer.answer == "committed":
            named = f"{answer.number} transactions that the snapshot does not see are committed on the copy"
            return Verdict.FAIL, f"{named}: {_some(answer)}{_WAITED}"
        if answer.kind == "seen" and answer.answer not in {"committed", "forgotten"}:
            named = f"{answer.number} transactions that the snapshot sees are {answer.answer} on the copy"
            return Verdict.FAIL, f"{named}: {_some(answer)}"
    for answer in answers:
        if answer.answer == "forgotten":
            return (
                Verdict.UNKNOWN,
                f"the copy no longer knows what became of {answer.number} transactions: {_some(answer)}",
            )
    return _judge_end(aligned, parse_lsn(recovered.end_lsn), sum(answer.number for answer in answers))


def _judge_end(aligned: Aligned, replayed: int, asked: int) -> tuple[Verdict, str]:
    """Whether replay ended where it was told: behind the last commit that the snapshot sees, and no further."""
    target = parse_lsn(aligned.target)
    last = aligned.recent[-1].lsn if aligned.recent else parse_lsn(aligned.start)
    lowest = target if aligned.inclusive else last
    highest = parse_lsn(aligned.noted) if aligned.inclusive else target
    if not lowest < replayed <= highest:
        return Verdict.FAIL, (
            f"expected replay to end behind {show_lsn(lowest)} and not behind {show_lsn(highest)},"
            f" got {show_lsn(replayed)}"
        )
    if not asked:
        return Verdict.PASS, f"replay ended at {show_lsn(replayed)}; nobody committed between the backup and there"
    return (
        Verdict.PASS,
        f"replay ended at {show_lsn(replayed)}; {asked} transactions are what the snapshot sees of them",
    )


def _some(answer: _Answer) -> str:
    more = answer.number - len(answer.examples)
    return ", ".join(answer.examples) + (f" and {more} more" if more > 0 else "")
