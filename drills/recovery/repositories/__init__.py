"""Recovery from repositories of backups that somebody else takes; they are only read."""
