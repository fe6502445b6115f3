"""Recovery from dumps: those that a drill takes, and those that somebody else made."""
