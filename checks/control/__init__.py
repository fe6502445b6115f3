"""Control totals: what other systems say."""
