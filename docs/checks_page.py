"""The text of docs/checks.md: what each check proves, and the corpus of damages, from the catalogue of damages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from checks.negative.damages import DAMAGES
from drills.plans.negative import CHOSEN

HEAD = """\
<!-- Written by docs/generate.py from docs/checks_page.py and checks/negative/damages.py: change it there. -->
# The checks

Each check answers PASS, FAIL or UNKNOWN. What was skipped, crashed, compared nothing, or lacked a tool is UNKNOWN. The
basis is where the expected value comes from: *snapshot*, measured in the source inside the very snapshot that the
backup holds; *control*, given by the plan or by another system; *none*, the copy is asked about itself alone. What is
*snapshot* below is *wal* for a physical copy, which was recovered to the snapshot, and *closed-period* for a copy of
another time: of that, totals of rows that no longer change are compared, tables and structure as the source has them
now, and row counts, content and sequences not at all; of the other tables nothing is known but whether they hold rows.
"""
CHECKS = (
    (
        "row counts", "snapshot", "every table has as many rows as the snapshot",
        "which rows they are, or what they hold",
    ),
    (
        "content", "snapshot", "every column of every row, and every large object, is as in the snapshot, by a digest"
        " that the server makes while it reads",
        "a forger with the digests in hand, unless the plan says `digest: sha256`; rows of materialized"
        " views, which a restore computes anew; rows of foreign tables, which no"
        " backup holds; unlogged tables, which no physical copy and no crash leaves anything in, where the plan gives"
        " them up by `unlogged: false` (row counts and sequences likewise)",
    ),
    (
        "tables", "snapshot", "every table and view of the snapshot is there under its name and kind, and no other",
        "what they are made of",
    ),
    (
        "emptied tables", "closed-period", "every table that holds rows at the source now, and the large objects, hold"
        " some in a copy of another time; one that holds none is UNKNOWN, unless `may_be_empty` says why; it names the"
        " tables that no total reads, and is asked of such a copy alone",
        "how many rows came back, or which; a table that was empty when the backup was made, and since was not; rows of"
        " foreign tables and of materialized views",
    ),
    (
        "structure", "snapshot", "the catalogue reads the same: columns, constraints, indexes, triggers, views,"
        " functions, policies, owners, grants, types, extensions, comments",
        "physical storage and tablespaces; owners and grants, where the staging server has not the roles",
    ),
    (
        "sequences", "snapshot", "every sequence stands where it stood while the backup was taken, and ahead of the"
        " column that it feeds",
        "the exact value, since sequences are in no snapshot: it lies between two readings",
    ),
    (
        "totals", "snapshot", "sums of money by groups are those of the snapshot, as exact decimals",
        "whether the source was right; single rows that leave every sum as it was",
    ),
    (
        "totals (control)", "control", "the same sums agree with a file or another system, and which of the three does"
        " not",
        "whether the other system is right",
    ),
    (
        "ledger", "control", "books balance in the copy, as they did in the snapshot",
        "postings that went missing in balance; the content check sees those",
    ),
    (
        "invariants", "control", "a statement whose answer is known gives it, over tables that have rows",
        "anything that the statement does not look at",
    ),
    (
        "amcheck", "none", "every B-tree agrees with its table, and every heap and TOAST table is in order",
        "indexes of other kinds; what rows hold",
    ),
    (
        "page checksums", "none", "every page of a physical copy has the checksum that it was written with",
        "pages that were wrong before they were written; logical copies, which have pages of their own making",
    ),
    (
        "smoke", "control", "people could work with the copy: statements, times, programs, an application run on it",
        "anything that nobody asked",
    ),
    (
        "negative control", "none", "the checks above catch damages that are planted on purpose in a scratch clone",
        "damages that nobody planted",
    ),
)  # fmt: skip
ONCE = (
    (
        "alignment", "a physical copy holds the transactions of the snapshot in which the source was measured, and no"
        " others, by the copy's own account ([ADR 8](adr/0008-a-physical-copy-stops-at-the-snapshot.md))",
        "the copy committed what the snapshot does not see, lacks what it sees, was recovered to another place, or is"
        " another system's",
        "the copy no longer knows what became of a transaction, does not say where its replay ended, or was not asked",
    ),
    (
        "age of the backup", "a backup that was there was not older than `max_age` when the drill began, at AWS when it"
        " was picked; without `max_age` its age is told",
        "it was older, or was taken more than two minutes after that: a clock is wrong",
        "nobody says when it was taken; without `max_age`: it was taken after that",
    ),
    (
        "… of the copy", "the copy's server is like the source's: major version, encoding, page checksums, block and"
        " segment size, architecture, layout of pages, one by one", "one differs in a way that hurts such a copy: a"
        " dump's rows do not depend on pages, those of a physical copy do", "never",
    ),
    (
        "extension … of the copy", "it is installed in the copy in the source's version", "the copy has none",
        "the copy has another version",
    ),
    (
        "collation … in the copy", "text sorts as it did where the copy's indexes were built", "the copy has not this"
        " collation or locale, or its indexes were built with another version of the library",
        "the source or the copy is older than PostgreSQL 15, which does not keep the version of a database's collation",
    ),
    (
        "what … said", "the tools that took and restored the backup said nothing amiss", "one of them reported an"
        " error, or the backup is not whole", "there was a warning that `accept_warnings` does not name",
    ),
    (
        "subscriptions of the copy", "a copy at AWS takes part in no replication of production's", "one is enabled,"
        " and the parameter group allows workers for it", "the copy does not say",
    ),
    (
        "scheduled jobs of the copy", "a copy at AWS runs no job of pg_cron", "pg_cron is preloaded,"
        " and a job is active", "the role may not see whether it is preloaded, or its jobs are in another database",
    ),
    (
        "every table was read", "all of a copy at AWS is there, which brings a block when it is first read", "never",
        "a table could not be read, or there is none",
    ),
)  # fmt: skip
"""What is asked about a copy once, beside the rounds: name, what it proves, when it is FAIL, and when UNKNOWN."""
ASKED_ONCE = """\
## Asked once

Of the backup and of the copy's server, as far as the recovery method has to do with it. The basis is *none*, that of
the alignment *wal*. The alignment, the age where there is a `max_age`, and the last three of a copy at AWS have to be
answered: without its answer the drill is UNKNOWN.

| Check | What it proves | FAIL | UNKNOWN |
|---|---|---|---|"""
CORPUS = """\
## The negative control

After the checks of the restored copy have been asked, a drill clones the copy (`CREATE DATABASE … TEMPLATE …`), and
plants damages in the clone, one at a time, each in a transaction that is rolled back. Each has to be caught by the
check that claims it, run by the same code with the same expectations, as far as it looks at the damaged place;
beforehand the same question is put to the undamaged clone, which has to pass. One damage that is not caught makes the
drill UNKNOWN at best. So does a control that caught nothing for row counts, content or structure, where the plan asks
for them, or for its totals, ledger or invariants, unless `negative_control:` names none of their damages. Each of the
first five totals, rules and invariants is put to the test by itself; a total over a view or a join by rows of the
tables below it. An invariant has to FAIL, or to say that its tables were emptied: a statement that crashed caught
nothing. Damages for which a database has no place, and checks for which no damage was chosen, are named in the record.
`negative_control:` in the [plan](plan.md) chooses the damages, or turns it off.

## The corpus

{count} damages, of which a drill plants those marked *default* unless its plan names others. The tests plant all of
them on PostgreSQL 18 and 15, and see each caught by the check that claims it, and the sound database pass.

| Damage | What it is | Claimed by | |
|---|---|---|---|"""


def checks_page() -> str:
    """The whole page."""
    return "\n".join([*_checks(), CORPUS.format(count=len(DAMAGES)), *_corpus(), ""])


def _checks() -> Iterator[str]:
    claims = Counter(damage.claimed_by for damage in DAMAGES.values())
    yield HEAD
    yield "| Check | Basis | What it proves | What it cannot | Damages that it claims |"
    yield "|---|---|---|---|---|"
    for name, *told in CHECKS:
        count = claims[name] or claims[name.removesuffix("s")]
        yield f"| {name} | {' | '.join(told)} | {count or 'none'} |"
    yield ""
    yield ASKED_ONCE
    yield from (f"| {' | '.join(told)} |" for told in ONCE)
    yield ""


def _corpus() -> Iterator[str]:
    for name, damage in DAMAGES.items():
        yield f"| {name} | {damage.meaning} | {damage.claimed_by} | {'*default*' if name in CHOSEN else ''} |"
