"""What a basis and a digest mean, in sentences for a reader who knows neither PostgreSQL nor this program.

Owns what each basis shows and what it does not show. Refuses comfort: no sentence says more than what was compared.
"""

from __future__ import annotations

from drills.records import Basis

BASES = {
    Basis.SNAPSHOT: "Measured in the source, in the snapshot that the backup holds. An equal value shows that the copy"
    " is as the source was at that instant; not that the source was right.",
    Basis.WAL: "Measured in the source, in a snapshot whose place in the WAL was found, and at which the recovery of"
    " the copy was stopped; see How exact. An equal value shows that the copy is as the source was at that instant,"
    " provided that the check alignment passed; not that the source was right.",
    Basis.CLOSED_PERIOD: "Measured in the source at another time than that of the copy. Of totals, only rows dated"
    " before the end of the period were added up, which by the plan's closing rule no longer change; names and"
    " structure are those of the source when the drill looked at it. An equal total shows that what had been closed"
    " came back. It does not show what was written later, nor how many rows there are, nor what they hold: row counts"
    " and contents were not compared. Of a table that no total reads, it shows at most that it is not without rows.",
    Basis.CONTROL: "Given by the plan, or by another system that it names. An equal value shows that the copy agrees"
    " with it; not that whoever gave it is right.",
    Basis.NONE: "No value was expected from elsewhere: the copy, its server, its backup or a tool was asked by itself."
    " The answer shows whether that is sound; not whether the copy holds what the source held.",
}
"""What a basis shows, and what it does not."""
CLOSED = (
    "The copy is of another time than the one at which the source was measured. Of rows, only those that can no longer"
    " change, by the closing rules of the plan, were compared, as totals; row counts and contents were not. Of every"
    " other table it was only asked whether it holds any row at all: see emptied tables, which names them."
)
"""What stands beside the verdict of a drill whose basis is closed periods."""
TAKEN_NOW = ("dump", "stream", "basebackup")
"""Methods whose backup is always taken by the drill."""
DIGESTED_BY_LINES = "SHA-256 over the sorted lines that sha256sum prints for its files"
DIGESTED = {
    "stream": "SHA-256 of what pg_dump wrote into the pipe",
    "basebackup": "SHA-256 of its backup_manifest, by which pg_verifybackup compared its files",
    "dump_file": "SHA-256 of the file as it was stored; of a directory, over the lines that sha256sum prints for it",
}
"""What the digest of a backup was made over, where it is not the usual."""
