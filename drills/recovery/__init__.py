"""The ways to get a database back; what they have in common is in `base`."""
