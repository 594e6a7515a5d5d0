"""The transparency log: what makes the stored events evidence that an outsider can check.

Formats are those of certificate logs (RFC 6962 and 9162) and of C2SP (c2sp.org), so that programs
of others can verify them. Pure modules, without a database:

- `merkle`: the tree: roots, inclusion and consistency proofs, and their verification
- `tiles`: how the tree and its entries are cut into files (tlog-tiles)
- `encoding`: how all the texts write bytes and numbers; `notes`: signed texts, and keys
- `checkpoints`: the tree's signed head; `cosignatures`: a witness's word for one
- `handovers`: from key to key; `proofs`: what an assessor is given; `witnesses`: how one is asked

With it:

- `storage` reads tiles, proofs and entries; `keys` says which key signs
- `sealing` gives pending events their places; `publishing` brings checkpoints outside
- `evidence` proves one event; `verification` recomputes everything
"""
