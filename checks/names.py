"""Names of tables: as SQL takes them, and as people read them."""

from __future__ import annotations

from psycopg import sql


def identifier(schema: str, name: str) -> str:
    """Schema and name as SQL takes them, always quoted."""
    return sql.Identifier(schema, name).as_string()


def qualified(schema: str, name: str) -> str:
    """Schema and name for people, quoted where either needs it: the same on every server, and unambiguous."""
    return f"{schema}.{name}" if _plain(schema) and _plain(name) else identifier(schema, name)


def _plain(name: str) -> bool:
    """Whether a name has nothing that would need quotes; reserved words depend on the server's version, and do not."""
    return name.isascii() and name.replace("_", "a").isalnum() and name.islower() and not name[0].isdigit()
