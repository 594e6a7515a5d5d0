"""Honest figures: each is a ratio to a named baseline that ran in the same minutes, here.

`make bench` runs `ingest`, `load`, `ledger` and `detection`, `make bench-read` runs `read`.
Nothing here is a test: no figure makes anything fail.
"""
