"""Verification: everything that the log says of itself, computed again from the events.

- `faults`: what can be wrong; `run`: the whole of it, within one snapshot of the database
- `events`: rows against their digests and leaves, the most of the work; `parallel` shares it out
- `tree`: leaves against tiles, and tiles against each other
- `signatures`: keys, checkpoints and cosignatures; `copies`: what was published before
- `completeness`: what no leaf knows of, what is there twice, counts, what was pruned
- `sequences`: the numbers that applications give their events
"""
