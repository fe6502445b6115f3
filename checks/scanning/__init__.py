"""One scan of each table: rows, digests, totals."""
