"""The benchmark: what the equality prover costs, against the bare scan and its peers, on one pair of databases.

`make bench` runs it and writes docs/benchmarks.md.
"""
