"""What a copy must prove."""
