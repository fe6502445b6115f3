"""Whether a copy is like production, where it would be hurt if it were not."""
