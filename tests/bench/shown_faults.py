"""What each contender says of one fault at a time, on a small pair of databases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from bench.blocks import Contest, Site, run_ours
from bench.children import ChildError
from bench.ledger import Fault, handful
from bench.pair import damaged
from bench.peer import Peer
from drills.errors import DrillbookError

OURS = "drillbook"
NOTHING = "nothing (a sound copy)"
_SHOWN = Contest("faults", "live", 1)


def show_faults(site: Site, rows: int, peers: Mapping[str, Peer], limit: float) -> dict[str, dict[str, str]]:
    """By fault, then by contender: what it said. Each fault is healed before the next is planted."""
    faults: list[Fault | None] = [None, *handful(rows)]
    askers: dict[str, Callable[[], set[int]]] = {OURS: partial(_ask_ours, site)}
    askers |= {name: partial(_ask_peer, peer, site, site.folder, limit) for name, peer in peers.items()}
    found = {}
    for fault in faults:
        with damaged(site.copy, [fault]) if fault else nullcontext():
            said = {name: _said(ask, set(fault.keys) if fault else set()) for name, ask in askers.items()}
        found[fault.name if fault else NOTHING] = said
    return found


def _ask_ours(site: Site) -> set[int]:
    told, _ = run_ours(site, _SHOWN)
    return set(told.keys)


def _ask_peer(peer: Peer, site: Site, folder: Path, limit: float) -> set[int]:
    with peer.ready([site.source, site.copy]):
        return peer.run(site.source, site.copy, folder / f"{peer.name}.log", limit)[0]


def _said(ask: Callable[[], set[int]], planted: set[int]) -> str:
    """In words: what was found of what was planted."""
    try:
        named = ask()
    except (ChildError, DrillbookError) as error:
        return f"**{error}**"
    other = f", and **{len(named - planted)} other rows**" if named - planted else ""
    if not planted:
        return f"said nothing{other}"
    if planted <= named:
        return f"found{other}"
    if planted & named:
        return f"**found {len(planted & named)} of {len(planted)} rows**{other}"
    return f"**missed**{other}"
