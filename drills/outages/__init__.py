"""Faults injected on purpose, one file each, behind the contract in `base`."""
