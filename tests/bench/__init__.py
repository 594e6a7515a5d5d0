"""Honest figures: each is a ratio to a named baseline that ran in the same minutes, here.

`make bench` runs `tests.bench.ingest`. Nothing here is a test: no figure makes anything fail.
"""
