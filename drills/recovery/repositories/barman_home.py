"""Where Barman keeps the backups of a server, read from its configuration, and what it has noted of each backup.

Owns no file of Barman's and writes none. Guarantees that of production's configuration only what says where backups
and WAL lie, and how they are packed, gets into the one that the drill uses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as ConfigError
from dataclasses import dataclass
from pathlib import Path

from drills.errors import ToolError

_KEPT = (
    "compression",
    "custom_compression_filter",
    "custom_decompression_filter",
    "custom_compression_magic",
    "path_prefix",
)
_DEFAULTS = {
    "backup_directory": "%(barman_home)s/%(name)s",
    "basebackups_directory": "%(backup_directory)s/base",
    "wals_directory": "%(backup_directory)s/wals",
    "incoming_wals_directory": "%(backup_directory)s/incoming",
    "streaming_wals_directory": "%(backup_directory)s/streaming",
}
"""Barman(5)."""
LINKED = {"wals": "wals_directory", "incoming": "incoming_wals_directory", "streaming": "streaming_wals_directory"}
"""Where WAL lies, filed or not yet. None of these is told to a Barman that we run: it would file what has come in."""
_QUOTED = re.compile(r"^([\"'])(.*)\1$")
_INFO = "backup.info"


@dataclass(frozen=True)
class Home:
    """The folders of one server in Barman's home."""

    server: str
    settings: Mapping[str, str]

    @property
    def bases(self) -> Path:
        """Where the base backups lie."""
        return Path(self.settings["basebackups_directory"])

    def folder(self, name: str) -> Path:
        """One of those in which WAL lies."""
        return Path(self.settings[LINKED[name]])

    def read_backups(self) -> dict[str, dict[str, str]]:
        """What Barman has noted of each backup, by the backup's id; what it does not know is left out.

        Raises:
            ToolError: it cannot be read.
        """
        found = {}
        try:
            # Barman 3.14 has these files beside the backups instead of in them.
            beside = list((Path(self.settings["backup_directory"]) / "meta").glob(f"*-{_INFO}"))
            for path in [*(entry / _INFO for entry in self.bases.iterdir() if (entry / _INFO).exists()), *beside]:
                label = path.parent.name if path.name == _INFO else path.name.removesuffix(f"-{_INFO}")
                pairs = (line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
                found[label] = {name: value for name, value in pairs if value != "None"}
        except (OSError, ValueError) as error:
            raise ToolError(
                f"the backups of {self.server} in {self.bases} cannot be read: {error}",
                hint="mend recovery.config or recovery.server, or let this account read Barman's home",
            ) from None
        return found

    def own_config(self, place: Path, account: str) -> str:
        """A configuration that leads to the same backups, and has everything that Barman writes in this place."""
        kept = {name: self.settings[name] for name in (*_KEPT, *_DEFAULTS) if name in self.settings}
        told = {
            **kept,
            "description": "read by a drill",
            "conninfo": "host=/nonexistent",
            "backup_method": "postgres",
            "archiver": "on",
            **{key: str(place / name) for name, key in LINKED.items()},
            "errors_directory": str(place / "errors"),
        }
        own = {
            "barman_home": str(place),
            "barman_user": account,
            "barman_lock_directory": str(place / "lock"),
            "log_file": str(place / "barman.log"),
        }
        parts = [("barman", own), (self.server, told)]
        return "\n".join(
            f"[{name}]\n" + "".join(f"{key} = {value.replace('%', '%%')}\n" for key, value in part.items())
            for name, part in parts
        )


def chain_of(label: str, infos: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The backups that an incremental one is put together of, itself first; none where it is whole by itself."""
    chain = [label]
    while (parent := infos.get(chain[-1], {}).get("parent_backup_id")) and parent not in chain:
        chain.append(parent)
    return chain if len(chain) > 1 else []


def read_home(config: Path, server: str) -> Home:
    """Where this configuration of Barman's has the backups of this server.

    Raises:
        ToolError: it cannot be read, or knows no such server.
    """
    parser = ConfigParser(strict=False, interpolation=None)
    try:
        parser.read_string(config.read_text())
        further = parser.get("barman", "configuration_files_directory", fallback="")
        for path in sorted(Path(_unquoted(further)).expanduser().glob("*.conf")) if further else []:
            parser.read_string(path.read_text())
    except (OSError, ValueError, ConfigError) as error:
        raise ToolError(
            f"Barman's configuration {config} cannot be read: {' '.join(str(error).split())}",
            hint="mend recovery.config, or let this account read it",
        ) from None
    if server == "barman" or not parser.has_section(server):
        known = ", ".join(name for name in parser.sections() if name != "barman") or "none"
        raise ToolError(f"{config} knows no server {server}: expected one of {known}", hint="mend recovery.server")
    told = {**dict(parser.items("barman")), **dict(parser.items(server))}
    given = {name: _unquoted(value) for name, value in told.items() if value and value.lower() != "none"}
    return Home(server, _expanded({**_DEFAULTS, **given, "name": server}))


def _unquoted(value: str) -> str:
    return _QUOTED.sub(r"\2", value)


def _expanded(settings: Mapping[str, str]) -> Mapping[str, str]:
    """Values with the names in them followed, as Barman writes them: %(barman_home)s."""
    for _ in _DEFAULTS:
        settings = {name: _follow(value, settings) for name, value in settings.items()}
    return settings


def _follow(value: str, settings: Mapping[str, str]) -> str:
    return re.sub(r"%\((\w+)\)s", lambda found: settings.get(found[1], found[0]), value)
