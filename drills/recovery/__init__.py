"""The ways to get a database back, one file each, behind the contract in `base`."""
