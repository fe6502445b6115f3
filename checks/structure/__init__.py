"""The structure of a database, read and compared."""
