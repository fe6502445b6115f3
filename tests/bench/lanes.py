"""The lanes of the benchmark of recovery: each method, whom it is run by, and what ours is held against.

A lane has its hands in `copying_ours` and `copying_by_hand`, by the names here; a backup that is there before the clock
runs comes from `kept`.
"""

from __future__ import annotations

OURS, BARE, VERIFIED, PEER = "ours", "bare tools", "bare tools with pg_verifybackup", "pgcopydb"
DUMP, STREAM, BASEBACKUP, PGBACKREST, BARMAN = "dump", "stream", "basebackup", "pgbackrest", "barman"
PLAIN_DUMP = "dump, uncompressed"
"""What is on a disk then may be as large as with the peer, which compresses nothing either."""
CUSTOM_FILE, PLAIN_FILE = "dump_file, custom", "dump_file, plain with gzip"
FILES, REPOSITORIES = (CUSTOM_FILE, PLAIN_FILE), (PGBACKREST, BARMAN)
"""Of backups that are there."""
AGAINST = {
    DUMP: (BARE, PEER),
    PLAIN_DUMP: (BARE, PEER),
    CUSTOM_FILE: (BARE,),
    PLAIN_FILE: (BARE,),
    STREAM: (BARE, PEER),
    BASEBACKUP: (BARE, VERIFIED),
    PGBACKREST: (BARE,),
    BARMAN: (BARE, VERIFIED),
}
"""The goals, method by method. The peer makes what a dump and its restore make."""
MOST = 1.05
"""Of the time of the bare tools."""
BLOCKS = {CUSTOM_FILE: 2, PLAIN_FILE: 2, STREAM: 2}
"""Of what takes long, and differs little from another lane: no more than these."""


def contenders(method: str) -> list[str]:
    """Those who run it. The peer runs once in a block, for all that are held against it."""
    return [*(one for one in AGAINST[method] if one != PEER or method == PLAIN_DUMP), OURS]
