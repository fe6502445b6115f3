"""The peers, each called as its documentation says; their versions are pinned here."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from bench.children import ChildError, Ended, last_word
from bench.pair import run
from bench.peer import Packaged, Peer, install, url
from drills.addresses import Address


class Reladiff(Packaged):
    """https://reladiff.readthedocs.io/en/latest/how-to-use.html."""

    def __init__(self) -> None:
        super().__init__(
            "reladiff",
            "`reladiff postgresql://…/ledger ledger postgresql://…/ledger_copy ledger -k id -c % -j 2 --json`",
            "Both sides live; two threads for each database.",
            pins=("reladiff[postgresql]==0.6.0", "psycopg2-binary==2.9.13"),
        )

    def command(self, source: Address, copy: Address) -> list[str]:
        """All columns, two threads."""
        told = [part for side in (source, copy) for part in (url("postgresql", side), "ledger")]
        return [self.program("reladiff"), *told, "-k", "id", "-c", "%", "-j", "2", "--json"]

    def keys(self, ended: Ended) -> set[int]:
        """Its lines are `["-", ["<key>", …]]`. What went wrong is in its log alone: it exits with 0."""
        crashed = re.search(r"ERROR - (.*)", ended.said)
        if crashed or ended.code:
            raise ChildError(
                f"crashed, exit code {ended.code}: {crashed[1].strip() if crashed else last_word(ended.said)}"
            )
        return {int(json.loads(line)[1][0]) for line in ended.said.splitlines() if line.startswith('["')}


_DATACOMPY = """
import json, sys
import datacompy, pandas, sqlalchemy
source, copy = (pandas.read_sql("SELECT * FROM ledger", sqlalchemy.create_engine(url)) for url in sys.argv[1:])
compare = datacompy.PandasCompare(source, copy, join_columns="id")
other = () if compare.matches() else (compare.all_mismatch(), compare.df1_unq_rows, compare.df2_unq_rows)
keys = [key for frame in other for key in frame["id"]]
print("keys", json.dumps([int(key) for key in keys]))
"""


class Datacompy(Packaged):
    """https://capitalone.github.io/datacompy/pandas_usage.html."""

    def __init__(self) -> None:
        super().__init__(
            "datacompy",
            "the Python program below",
            f"Loads both sides into pandas:\n\n```python{_DATACOMPY}```",
            pins=("datacompy==1.1.0", "pandas==3.0.6", "SQLAlchemy==2.1.9", "psycopg2-binary==2.9.13"),
        )

    def command(self, source: Address, copy: Address) -> list[str]:
        """The program above."""
        return [
            self.program("python"),
            "-c",
            _DATACOMPY,
            *(url("postgresql+psycopg2", side) for side in (source, copy)),
        ]

    def keys(self, ended: Ended) -> set[int]:
        """What the program above prints last."""
        found = re.search(r"^keys (\[.*\])$", ended.said, re.MULTILINE)
        if ended.code or found is None:
            raise ChildError(f"crashed, exit code {ended.code}: {last_word(ended.said)}")
        return set(json.loads(found[1]))


_DEBS = ("postgresql-comparator", "libdbd-pg-perl", "libdbi-perl")
_FUNCTIONS = {"cksum4": ("int4", "hashtext($1)"), "cksum8": ("int8", "hashtextextended($1, 0)")}
"""What it calls in the databases, and what stands in for its own C functions where its package has none."""


class PgComparator(Peer):
    """pg_comparator(1). Debian's packages are unpacked, not installed."""

    def __init__(self) -> None:
        super().__init__("pg_comparator", "`pg_comparator pgsql://…/ledger/ledger pgsql://…/ledger_copy/ledger`")

    @property
    def installed(self) -> str:
        """From Debian."""
        return f"`apt-get download {' '.join(_DEBS)}`, each unpacked with `dpkg-deb -x`"

    def install(self, folder: Path) -> str:
        """Debian's packages; the machine must have perl and libpq."""
        self.folder = folder / self.name
        self.folder.mkdir()
        install(["apt-get", "download", *_DEBS], self.folder)
        for deb in sorted(self.folder.glob("*.deb")):
            install(["dpkg-deb", "-x", os.fspath(deb), os.fspath(self.folder)], self.folder)
        install(["perl", "-MDBD::Pg", "-e", "1"], self.folder, self.environment())
        return next(self.folder.glob(f"{_DEBS[0]}_*.deb")).name.split("_")[1]

    def environment(self) -> Mapping[str, str]:
        """Where Perl finds its modules."""
        places = [self.folder / "usr" / "share" / "perl5", *self.folder.glob("usr/lib/*/perl5/*")]
        return {"PERL5LIB": ":".join(map(os.fspath, places))}

    @contextmanager
    def ready(self, databases: Sequence[Address]) -> Iterator[None]:
        """Its checksum functions: those of its package where that has them for this version of the server."""
        major = run(databases[0], "SELECT current_setting('server_version_num')::int / 10000")[0][0]
        library = self.folder / f"usr/lib/postgresql/{major}/lib/pgcmp.so"
        own = library.exists()
        self.note = "Both sides live; it makes checksum tables on both servers. " + (
            "Its own functions in C."
            if own
            else f"Its package has its functions in C not for PostgreSQL {major}: PostgreSQL's own `hashtext` and "
            "`hashtextextended`, which are in C too, stand in for `cksum4` and `cksum8`."
        )
        made = []
        for name, (kind, body) in _FUNCTIONS.items():
            how = f"LANGUAGE c AS '{library}', 'text_checksum{name[-1]}'" if own else f"LANGUAGE sql RETURN {body}"
            made.append(f"CREATE FUNCTION {name}(text) RETURNS {kind} IMMUTABLE PARALLEL SAFE {how}")
        for address in databases:
            run(address, *made)
        try:
            yield
        finally:
            for address in databases:
                run(address, *(f"DROP FUNCTION {name}(text)" for name in _FUNCTIONS))

    def command(self, source: Address, copy: Address) -> list[str]:
        """With its defaults."""
        program = os.fspath(self.folder / "usr" / "bin" / "pg_comparator")
        return [program, *(f"{url('pgsql', side)}/ledger" for side in (source, copy))]

    def keys(self, ended: Ended) -> set[int]:
        """Its lines are `UPDATE <key>`, `INSERT <key>` and `DELETE <key>`."""
        if ended.code:
            raise ChildError(f"crashed, exit code {ended.code}: {last_word(ended.said)}")
        return {int(key) for key in re.findall(r"^(?:UPDATE|INSERT|DELETE) (\d+)$", ended.said, re.MULTILINE)}


PEERS: Mapping[str, type[Reladiff | PgComparator | Datacompy]] = MappingProxyType(
    {"reladiff": Reladiff, "pg_comparator": PgComparator, "datacompy": Datacompy}
)
