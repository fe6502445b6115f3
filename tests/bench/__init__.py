"""The benchmark: what proving that a copy is equal costs, and what bringing it back does.

The equality prover is held against the bare scan and its peers, on one pair of databases; the recovery methods against
the bare tools and pgcopydb. `make bench` runs both, and writes docs/benchmarks.md and docs/benchmarks-recovery.md.
"""
