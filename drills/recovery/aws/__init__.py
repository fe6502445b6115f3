"""Recovery from backups that AWS keeps."""
