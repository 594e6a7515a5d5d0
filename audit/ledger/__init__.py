"""The transparency log: what makes the stored events evidence that an outsider can check.

Formats are those of certificate logs (RFC 6962 and 9162) and of C2SP (c2sp.org), so that programs
of others can verify them. Pure modules, without a database:

- `merkle`: the tree: roots, inclusion and consistency proofs, and their verification
- `tiles`: how the tree and its entries are cut into files (tlog-tiles)
- `notes`: signed texts and keys (signed-note); `checkpoints`: the tree's signed head
- `proofs`, `handovers`, `witnesses`: what is given to an assessor or to another log's keeper

The others write or read the ledger's tables.
"""
