"""Whether the extensions of an installation are read from its files as CREATE EXTENSION would."""

from __future__ import annotations

import shutil
from pathlib import Path

from drills.extensions import extensions_of
from drills.tools import Tools, embedded_tools


def test_an_extension_is_followed_over_its_updates_and_needs_its_library(tmp_path: Path) -> None:
    real = embedded_tools()
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    tools = Tools(home / "bin", real.version, real.major)
    assert extensions_of(tools) is None
    share = home / "share/extension"
    share.mkdir(parents=True)
    (share / "ledger.control").write_text("default_version = '1.2'\n")
    for script in ("ledger--1.0.sql", "ledger--1.0--1.1.sql", "ledger--1.1--1.2.sql", "ledger--2.0--2.1.sql"):
        (share / script).touch()
    (share / "native.control").write_text("default_version = '1'\nmodule_pathname = '$libdir/native'\n")
    (share / "native--1.sql").touch()
    assert extensions_of(tools) == {"ledger": frozenset({"1.0", "1.1", "1.2"}), "native": frozenset()}
    (home / "lib").mkdir()
    (home / "lib/native.so").touch()
    assert (extensions_of(tools) or {})["native"] == {"1"}
    shutil.rmtree(home)


def test_scripts_and_libraries_are_found_where_a_control_file_says(tmp_path: Path) -> None:
    real, home = embedded_tools(), tmp_path / "home"
    tools = Tools(home / "bin", real.version, real.major)
    share, far = home / "share/extension", tmp_path / "far"
    for folder in (share / "mask", far, home / "lib/sub"):
        folder.mkdir(parents=True)
    (share / "mask.control").write_text("# masks\ndirectory = 'extension/mask'\ndefault_version = '1.3'\n")
    (share / "mask/mask--1.3.sql").touch()
    (share / "away.control").write_text(f"directory='{far}' # elsewhere\nmodule_pathname = '{far}/away.so'\n")
    (far / "away--2.sql").touch()
    for name, library in {"plain": "'plainly'", "deep": "'$libdir/sub/deep'", "bare": "bare"}.items():
        (share / f"{name}.control").write_text(f"module_pathname = {library}\n")
        (share / f"{name}--1.sql").touch()
    (share / "plain--1.control").write_text("comment = 'of version 1'\n")
    lacking = {name: frozenset[str]() for name in ("away", "plain", "deep", "bare")}
    assert extensions_of(tools) == {"mask": frozenset({"1.3"}), **lacking}
    for path in (far / "away.so", *(home / "lib" / f"{name}.so" for name in ("plainly", "sub/deep", "bare"))):
        path.touch()
    versions = {"mask": "1.3", "away": "2", "plain": "1", "deep": "1", "bare": "1"}
    assert extensions_of(tools) == {name: frozenset({version}) for name, version in versions.items()}
