"""What every peer of the benchmark has in common: it is installed into the benchmark's own folder, and it is called.

Nothing is installed on the machine. Refuses to guess: a peer that cannot be had is told with the reason, and one that
crashed is not said to have found nothing.
"""

from __future__ import annotations

import os
import shlex
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from bench.children import ChildError, Ended, run_child
from drills.addresses import Address

_INSTALL_LIMIT = 300.0
"""Seconds."""


@dataclass
class Peer(ABC):
    """A program that compares two databases."""

    name: str
    called: str
    """How, in Markdown."""
    note: str = ""
    folder: Path = field(default_factory=Path)
    """Its own, once it is installed."""

    @property
    @abstractmethod
    def installed(self) -> str:
        """How, in Markdown."""

    @abstractmethod
    def install(self, folder: Path) -> str:
        """Have it below this folder; gives its version.

        Raises:
            ChildError: it cannot be had; says why.
        """

    def ready(self, databases: Sequence[Address]) -> AbstractContextManager[None]:  # noqa: ARG002 - for who needs them
        """What it needs in the databases, for as long as this lasts."""
        return nullcontext()

    @abstractmethod
    def command(self, source: Address, copy: Address) -> list[str]:
        """How it is started."""

    @abstractmethod
    def environment(self) -> Mapping[str, str]:
        """What it is told besides the addresses and the password."""

    @abstractmethod
    def keys(self, ended: Ended) -> set[int]:
        """The rows that it said to differ.

        Raises:
            ChildError: it crashed.
        """

    def run(self, source: Address, copy: Address, log: Path, limit: float) -> tuple[set[int], Ended]:
        """Run it to its end: the rows that it said to differ.

        Raises:
            ChildError: it crashed, or took too long or too much.
        """
        told = {**copy.environment(), **self.environment()}
        ended = run_child(self.command(source, copy), log=log, limit=limit, environment=told)
        return self.keys(ended), ended


@dataclass
class Packaged(Peer):
    """A Python package in an environment of its own."""

    pins: tuple[str, ...] = ()

    @property
    def installed(self) -> str:
        """From the package index that pip is set to."""
        return f"`pip install {' '.join(shlex.quote(pin) for pin in self.pins)}`"

    def install(self, folder: Path) -> str:
        """An environment with these versions."""
        self.folder = folder / self.name
        install([sys.executable, "-m", "venv", os.fspath(self.folder)], folder)
        install([self.program("python"), "-m", "pip", "install", "--quiet", *self.pins], folder)
        return self.pins[0].split("==")[1]

    def program(self, name: str) -> str:
        """Of its environment."""
        return os.fspath(self.folder / "bin" / name)

    def environment(self) -> Mapping[str, str]:
        """Wide lines, which are not broken."""
        return {"COLUMNS": "20000"}


def install(command: list[str], folder: Path, environment: Mapping[str, str] | None = None) -> None:
    """With the person's own environment: it says where packages come from.

    Raises:
        ChildError: it failed. What it said names hosts and folders, and goes to the terminal alone.
    """
    ended = run_child(command, log=folder / "install.log", limit=_INSTALL_LIMIT,
                      environment={**os.environ, **(environment or {})}, directory=folder)  # fmt: skip
    if ended.code:
        sys.stderr.write(ended.said)
        raise ChildError(f"{'pip' if 'pip' in command else Path(command[0]).name} ended with {ended.code}")


def url(scheme: str, address: Address) -> str:
    """Without the password, which libpq takes from the environment."""
    parts = address.parts
    return f"{scheme}://{parts['user']}@{parts['host']}:{parts['port']}/{parts['dbname']}"
