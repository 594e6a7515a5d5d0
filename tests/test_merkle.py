"""The Merkle tree against certificate logs' values, and against the RFC read a second time."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from audit.canonical import leaf
from audit.ledger import merkle
from audit.ledger.merkle import Frontier, Node

# The leaves and hashes that the tests of certificate logs have in common, from
# certificate-transparency and transparency-dev/merkle (testonly/constants.go).
INPUTS = (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
)  # fmt: skip
ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
NODES = {
    Node(0, 0): "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    Node(0, 1): "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    Node(0, 2): "0298d122906dcfc10892cb53a73992fc5b9f493ea4c9badb27b791b4127a7fe7",
    Node(0, 3): "07506a85fd9dd2f120eb694f86011e5bb4662e5c415a62917033d4a9624487e7",
    Node(0, 4): "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    Node(0, 5): "4271a26be0d8a84f0bd54c8c302e7cb3a3b5d1fa6780a40bcce2873477dab658",
    Node(0, 6): "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
    Node(0, 7): "46f6ffadd3d06a09ff3c5860d2755c8b9819db7df44251788c7d8e3180de8eb1",
    Node(1, 0): "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    Node(1, 1): "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    Node(1, 2): "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
    Node(1, 3): "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    Node(2, 0): "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    Node(2, 1): "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    Node(3, 0): "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}
INCLUSION = {  # (leaf, size): where the hashes of the published proof stand above
    (0, 1): [],
    (0, 8): [Node(0, 1), Node(1, 1), Node(2, 1)],
    (5, 8): [Node(0, 4), Node(1, 3), Node(2, 0)],
    (2, 3): [Node(1, 0)],
    (1, 5): [Node(0, 0), Node(1, 1), Node(0, 4)],
}
CONSISTENCY = {  # (old size, new size)
    (1, 1): [],
    (1, 8): [Node(0, 1), Node(1, 1), Node(2, 1)],
    (6, 8): [Node(1, 2), Node(1, 3), Node(2, 0)],
    (2, 5): [Node(1, 1), Node(0, 4)],
    (6, 7): [Node(1, 2), Node(0, 6), Node(2, 0)],
}


def published(node):
    return bytes.fromhex(NODES[node])


def published_root(size):
    return bytes.fromhex(ROOTS[size])


# --- RFC 9162, section 2.1, word for word ------------------------------------------------------


def k(n):
    """The largest power of two smaller than n."""
    power = 1
    while power * 2 < n:
        power *= 2
    return power


def mth(d):
    if not d:
        return sha256(b"").digest()
    if len(d) == 1:
        return d[0]  # the leaf's hash; leaves come hashed here
    return sha256(b"\x01" + mth(d[: k(len(d))]) + mth(d[k(len(d)) :])).digest()


def path(m, d):
    if len(d) == 1:
        return []
    if m < k(len(d)):
        return [*path(m, d[: k(len(d))]), mth(d[k(len(d)) :])]
    return [*path(m - k(len(d)), d[k(len(d)) :]), mth(d[: k(len(d))])]


def subproof(m, d, b):
    if m == len(d):
        return [] if b else [mth(d)]
    if m <= k(len(d)):
        return [*subproof(m, d[: k(len(d))], b), mth(d[k(len(d)) :])]
    return [*subproof(m - k(len(d)), d[k(len(d)) :], False), mth(d[: k(len(d))])]


# --- trees to try ------------------------------------------------------------------------------

LEAVES = [sha256(bytes([n % 256, n // 256])).digest() for n in range(1100)]


def read(node):
    """A node of the tree of LEAVES; only complete subtrees have one."""
    part = LEAVES[node.number << node.level : (node.number + 1) << node.level]
    assert len(part) == 1 << node.level
    return mth(part)


sizes = st.integers(0, 70) | st.integers(0, len(LEAVES))
positive_sizes = sizes.filter(bool)


@st.composite
def leaf_and_size(draw):
    size = draw(positive_sizes)
    return draw(st.integers(0, size - 1)), size


@st.composite
def two_sizes(draw, least=1):
    new = draw(positive_sizes)
    return draw(st.integers(least, new)), new


def wrong_proofs(proof):
    """The proof with one thing changed: a bit, an element more, fewer, twice or elsewhere."""
    other = sha256(b"other").digest()
    for n, value in enumerate(proof):
        for bit in (0, 7, 100, 255):
            flipped = (int.from_bytes(value, "big") ^ 1 << bit).to_bytes(32, "big")
            yield [*proof[:n], flipped, *proof[n + 1 :]]
        for bad in (value[:-1], value + b"\x00", b""):
            yield [*proof[:n], bad, *proof[n + 1 :]]
        yield proof[:n] + proof[n + 1 :]
        yield [*proof[: n + 1], *proof[n:]]
        yield [*proof[:n], other, *proof[n:]]
        if proof[n : n + 2] != proof[n : n + 2][::-1]:
            yield [*proof[:n], *proof[n : n + 2][::-1], *proof[n + 2 :]]
    yield [*proof, other]


# --- published values --------------------------------------------------------------------------


def test_the_reference_leaves_have_their_published_hashes():
    assert [leaf(bytes.fromhex(data)) for data in INPUTS] == [
        published(Node(0, n)) for n in range(8)
    ]
    for node in (node for node in NODES if node.level):
        below = [Node(node.level - 1, 2 * node.number + side) for side in (0, 1)]
        assert merkle.node_hash(*map(published, below)) == published(node)


@pytest.mark.parametrize("size", range(9))
def test_the_reference_tree_has_its_published_roots(size):
    assert merkle.root(size, published) == published_root(size)


def test_the_root_of_no_leaves_is_the_hash_of_nothing():
    assert published_root(0) == merkle.EMPTY_ROOT == Frontier().root()


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_an_inclusion_proof_is_the_published_one(index, size):
    proof = merkle.inclusion_proof(index, size, published)
    assert proof == [published(node) for node in INCLUSION[index, size]]
    leaf_hash = published(Node(0, index))
    assert merkle.verify_inclusion(leaf_hash, index, size, proof, published_root(size))


@pytest.mark.parametrize(("old", "new"), CONSISTENCY)
def test_a_consistency_proof_is_the_published_one(old, new):
    proof = merkle.consistency_proof(old, new, published)
    assert proof == [published(node) for node in CONSISTENCY[old, new]]
    assert merkle.verify_consistency(old, published_root(old), new, published_root(new), proof)


# --- against the RFC's recursion ---------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(sizes)
def test_every_root_is_the_rfcs(size):
    assert merkle.root(size, read) == mth(LEAVES[:size])


@settings(max_examples=80, deadline=None)
@given(leaf_and_size())
def test_every_inclusion_proof_is_the_rfcs_and_holds(given_):
    index, size = given_
    proof = merkle.inclusion_proof(index, size, read)
    assert proof == path(index, LEAVES[:size])
    assert merkle.verify_inclusion(LEAVES[index], index, size, proof, mth(LEAVES[:size]))


@settings(max_examples=80, deadline=None)
@given(two_sizes())
def test_every_consistency_proof_is_the_rfcs_and_holds(given_):
    old, new = given_
    proof = merkle.consistency_proof(old, new, read)
    assert proof == subproof(old, LEAVES[:new], True)
    assert merkle.verify_consistency(old, mth(LEAVES[:old]), new, mth(LEAVES[:new]), proof)


def test_every_proof_of_small_trees_holds():
    roots = [mth(LEAVES[:size]) for size in range(33)]
    for size in range(1, 33):
        for index in range(size):
            proof = merkle.inclusion_proof(index, size, read)
            assert merkle.verify_inclusion(LEAVES[index], index, size, proof, roots[size])
        for old in range(size + 1):
            proof = merkle.consistency_proof(old, size, read)
            assert merkle.verify_consistency(old, roots[old], size, roots[size], proof)


@settings(deadline=None)
@given(st.integers(1, 2**63 - 1), st.data())
def test_a_proof_in_the_largest_trees_needs_few_nodes_and_only_complete_ones(size, data):
    index = data.draw(st.integers(0, size - 1))
    wanted = merkle.inclusion_proof_nodes(index, size)
    wanted += merkle.consistency_proof_nodes(index, size)
    assert len(wanted) <= 63 + 64
    nodes = [node for group in wanted for node in group]
    assert len(nodes) <= 4 * 64
    assert all((node.number + 1) << node.level <= size for node in nodes)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 5), (5, 5)])
def test_there_is_no_proof_for_a_leaf_that_is_not_there(index, size):
    with pytest.raises(ValueError, match="has no leaf"):
        merkle.inclusion_proof(index, size, read)


@pytest.mark.parametrize(("old", "new"), [(2, 1), (-1, 5), (1, 0)])
def test_there_is_no_proof_that_a_tree_shrank(old, new):
    with pytest.raises(ValueError, match="does not extend"):
        merkle.consistency_proof(old, new, read)


# --- wrong proofs ------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(leaf_and_size())
@example((0, 1))
def test_an_altered_inclusion_proof_fails(given_):
    index, size = given_
    leaf_hash, root = LEAVES[index], mth(LEAVES[:size])
    proof = merkle.inclusion_proof(index, size, read)
    for wrong in wrong_proofs(proof):
        assert not merkle.verify_inclusion(leaf_hash, index, size, wrong, root)
    assert not merkle.verify_inclusion(root[::-1], index, size, proof, root)
    assert not merkle.verify_inclusion(leaf_hash, index, size, proof, leaf_hash[::-1])
    assert not merkle.verify_inclusion(b"", index, size, proof, b"")
    for other in {index - 1, index + 1, index ^ 2, -1, size, 2**64} - {index}:
        assert not merkle.verify_inclusion(leaf_hash, other, size, proof, root)
    # Sizes of the same shape above this leaf take the same proof: the root, not the proof,
    # binds the size (which a checkpoint signs together). Others fail.
    for other in {0, -1, index, size * 2, 2**64}:
        assert not merkle.verify_inclusion(leaf_hash, index, other, proof, root)


@settings(max_examples=80, deadline=None)
@given(two_sizes())
@example((1, 1))
@example((4, 8))
def test_an_altered_consistency_proof_fails(given_):
    old, new = given_
    old_root, new_root = mth(LEAVES[:old]), mth(LEAVES[:new])
    proof = merkle.consistency_proof(old, new, read)
    for wrong in wrong_proofs(proof):
        assert not merkle.verify_consistency(old, old_root, new, new_root, wrong)
    other = sha256(b"other").digest()
    assert not merkle.verify_consistency(old, other, new, new_root, proof)
    assert not merkle.verify_consistency(old, old_root, new, other, proof)
    assert not merkle.verify_consistency(old, b"", new, b"", proof)
    for size in (-1, 0, old * 2, new * 2 + 1, 2**64):
        if size != old:
            assert not merkle.verify_consistency(size, old_root, new, new_root, proof)
    for size in (-1, 0, new * 2, 2**64):
        assert not merkle.verify_consistency(old, old_root, size, new_root, proof)
    if old != new:
        assert not merkle.verify_consistency(new, new_root, old, old_root, proof)


def test_a_rewritten_leaf_leaves_no_way_to_prove_consistency():
    rewritten = [*LEAVES[:3], sha256(b"rewritten").digest(), *LEAVES[4:10]]
    for proof in (subproof(7, LEAVES[:10], True), subproof(7, rewritten, True)):
        assert not merkle.verify_consistency(7, mth(LEAVES[:7]), 10, mth(rewritten), proof)


def test_every_tree_extends_the_empty_one_and_itself():
    root, other = mth(LEAVES[:5]), mth(LEAVES[:6])
    assert merkle.verify_consistency(0, merkle.EMPTY_ROOT, 5, root, [])
    assert merkle.verify_consistency(0, merkle.EMPTY_ROOT, 0, merkle.EMPTY_ROOT, [])
    assert merkle.verify_consistency(5, root, 5, root, [])
    assert not merkle.verify_consistency(0, root, 5, root, [])
    assert not merkle.verify_consistency(0, root, 0, root, [])
    assert not merkle.verify_consistency(0, merkle.EMPTY_ROOT, 5, root, [root])
    assert not merkle.verify_consistency(5, root, 5, other, [])
    assert not merkle.verify_consistency(5, root, 5, root, [root])


@settings(max_examples=200)
@given(
    st.binary(max_size=33),
    st.integers(-2, 2**70),
    st.integers(-2, 2**70),
    st.lists(st.binary(min_size=32, max_size=32) | st.binary(max_size=65), max_size=70),
    st.binary(min_size=32, max_size=32),
)
def test_hostile_input_is_answered_with_no(leaf_hash, one, two, proof, root):
    assume(leaf_hash != root)  # else a tree of one leaf is proved, rightly
    assert not merkle.verify_inclusion(leaf_hash, one, two, proof, root)
    assert not merkle.verify_consistency(one, leaf_hash, two, root, proof)


# --- the frontier ------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=8))
def test_a_frontier_has_every_root_on_the_way(steps):
    one_by_one, many = Frontier(), Frontier()
    for step in steps:
        size = many.size
        part = LEAVES[size : size + step]
        for leaf_hash in part:
            one_by_one.append(leaf_hash)
        many.extend(b"".join(part))
        assert many.size == one_by_one.size == size + len(part)
        assert many.root() == one_by_one.root() == mth(LEAVES[: many.size])


@settings(max_examples=30, deadline=None)
@given(two_sizes(least=0))
def test_a_frontier_goes_on_from_stored_nodes(given_):
    old, new = given_
    frontier = Frontier.at(old, read)
    assert frontier.root() == mth(LEAVES[:old])
    frontier.extend(b"".join(LEAVES[old:new]))
    assert (frontier.size, frontier.root()) == (new, mth(LEAVES[:new]))


def test_a_frontier_takes_whole_hashes_only():
    with pytest.raises(ValueError, match="no whole number of hashes"):
        Frontier().extend(bytes(33))
