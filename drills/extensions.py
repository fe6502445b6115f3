"""The extensions that an installation of PostgreSQL could install, read from its files.

Owns the reading of control files and of scripts' names, as CREATE EXTENSION goes about them. Guarantees that a version
is named only if scripts lead to it, and that an extension whose library is missing has none.
"""

from __future__ import annotations

import re
from pathlib import Path

from drills.tools import Tools

_SETTING = re.compile(r"^\s*(?P<name>\w+)\s*=?\s*(?:'(?P<quoted>(?:[^']|'')*)'|(?P<plain>[^\s#']+))", re.MULTILINE)
_SCRIPT = re.compile(r"(?P<name>.+?)--(?P<first>.+?)(?:--(?P<then>.+?))?\.sql")
_LIBRARIES = ("lib", "lib/postgresql", "lib64")
"""What `$libdir` may be, beside the programs."""


def extensions_of(tools: Tools) -> dict[str, frozenset[str]] | None:
    """The extensions that a server of these programs has, each with the versions that can be installed.

    None where its share folder is not found. An extension whose library is missing has none.
    """
    folder = _control_files(tools)
    if folder is None:
        return None
    found = {}
    for control in sorted(folder.glob("*.control")):
        if "--" in control.stem:  # what one version of an extension says otherwise
            continue
        said = _settings(control)
        # Absolute, or relative to the share folder.
        scripts = folder.parent / said.get("directory", folder.name)
        whole = "module_pathname" not in said or _has_library(tools, said["module_pathname"])
        found[control.stem] = _versions(scripts, control.stem) if whole else frozenset()
    return found


def _control_files(tools: Tools) -> Path | None:
    """Where extensions are: beside the programs, or where Debian puts them."""
    home = tools.folder.parent
    places = [home / "share/extension", home / "share/postgresql/extension"]
    if home.parts[:2] == ("/", "usr"):
        places.append(Path(f"/usr/share/postgresql/{tools.major}/extension"))
    return next((place for place in places if place.is_dir()), None)


def _settings(control: Path) -> dict[str, str]:
    matches = _SETTING.finditer(control.read_text("utf-8", "replace"))
    return {
        match["name"]: match["plain"] if match["quoted"] is None else match["quoted"].replace("''", "'")
        for match in matches
    }


def _has_library(tools: Tools, name: str) -> bool:
    """Whether there is a library of this name, which may be a path, with its suffix or without."""
    plain = name.removeprefix("$libdir/")
    places = [tools.folder.parent / below / plain for below in _LIBRARIES]
    return any(place.exists() or place.with_name(f"{place.name}.so").exists() for place in places)


def _versions(folder: Path, name: str) -> frozenset[str]:
    """Those that some script installs, and those that updates lead to from there."""
    scripts = [match for path in folder.glob(f"{name}--*.sql") if (match := _SCRIPT.fullmatch(path.name))]
    reached = {match["first"] for match in scripts if match["then"] is None}
    steps = {(match["first"], match["then"]) for match in scripts if match["then"] is not None}
    while more := {then for first, then in steps if first in reached} - reached:
        reached |= more
    return frozenset(reached)
