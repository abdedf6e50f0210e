"""The tree is what its keys and values say, however it was made, and nobody can prove what is not in it."""

import random
from hashlib import sha256

import pytest

from nymtw.errors import LedgerBroken, ProofError
from nymtw.ledger.machine.merkle import EMPTY, Proof, Tree, checked, verify


def made(items: dict[bytes, bytes]) -> tuple[Tree, dict[bytes, bytes]]:
    updated = Tree({}.get).update(items)
    return Tree(updated.added.get, updated.root), updated.added


def test_known_roots() -> None:
    def leaf(key: bytes, value: bytes) -> bytes:
        return sha256(b"\0" + sha256(key).digest() + sha256(value).digest()).digest()

    assert made({})[0].root == EMPTY
    assert made({b"a": b"1"})[0].root == leaf(b"a", b"1")
    # sha256(b"a") begins with bits 110, sha256(b"b") with 001.
    both = sha256(b"\1" + leaf(b"b", b"2") + leaf(b"a", b"1")).digest()
    assert made({b"a": b"1", b"b": b"2"})[0].root == both


def test_a_tree_does_not_remember_how_it_was_made(seed: int) -> None:
    chance = random.Random(seed)
    nodes: dict[bytes, bytes] = {}
    tree, model = Tree(nodes.get), dict[bytes, bytes]()
    for _ in range(60):
        changes: dict[bytes, bytes | None] = {}
        for _ in range(chance.randrange(1, 30)):
            key = b"%d" % chance.randrange(200)
            changes[key] = None if chance.random() < 0.4 else chance.randbytes(chance.randrange(40))
        updated = tree.update(changes)
        for key, value in changes.items():
            if value is None:
                model.pop(key, None)
            else:
                model[key] = value
        assert not updated.added.keys() & updated.removed
        nodes.update(updated.added)
        for node in updated.removed:
            del nodes[node]
        tree = Tree(nodes.get, updated.root)
        fresh, needed = made(model)
        assert tree.root == fresh.root
        assert nodes == needed  # nothing is left over, nothing is missing
        assert dict(tree.items()) == model
        for number in range(210):
            key = b"%d" % number
            assert tree.get(key) == model.get(key)
            verify(tree.root, key, model.get(key), tree.prove(key))


def test_forged_proofs(seed: int) -> None:
    chance = random.Random(seed)
    tree, _ = made({b"%d" % number: chance.randbytes(8) for number in range(100)})
    there, away = b"7", b"absent"
    proof, absence = tree.prove(there), tree.prove(away)
    value = tree.get(there)
    forgeries = [
        (there, b"other", proof),
        (there, None, proof),
        (there, None, Proof(proof.siblings, (sha256(there).digest(), sha256(value or b"").digest()))),
        (there, None, absence),
        (away, b"", absence),
        (away, value, proof),
        (b"8", value, proof),
        (there, value, Proof(proof.siblings[:-1])),
        (there, value, Proof((*proof.siblings, EMPTY))),
        (there, value, Proof(proof.siblings[::-1])),
        (there, value, Proof((b"short", *proof.siblings[1:]))),
        (there, value, Proof(proof.siblings * 100)),
        # A leaf elsewhere in the tree, shown as if it were in this key's place.
        (
            there,
            None,
            Proof(tree.prove(b"8").siblings, (sha256(b"8").digest(), sha256(tree.get(b"8") or b"").digest())),
        ),
    ]
    verify(tree.root, there, value, proof)
    verify(tree.root, away, None, absence)
    for key, claimed, forged in forgeries:
        with pytest.raises(ProofError):
            verify(tree.root, key, claimed, forged)


def test_an_old_tree_stays_readable() -> None:
    nodes: dict[bytes, bytes] = {}
    first = Tree(nodes.get).update({b"a": b"1", b"b": b"1"})
    nodes.update(first.added)
    second = Tree(nodes.get, first.root).update({b"a": b"2", b"b": None})
    nodes.update(second.added)
    assert Tree(nodes.get, first.root).get(b"a") == b"1"
    assert dict(Tree(nodes.get, second.root).items()) == {b"a": b"2"}


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_changed_node_is_noticed(damage: str) -> None:
    tree, nodes = made({b"%d" % number: b"value" for number in range(20)})
    victim = next(node for node, body in nodes.items() if body.endswith(b"value"))
    if damage == "changed":
        nodes[victim] = nodes[victim][:-5] + b"VALUE"
    else:
        del nodes[victim]
    damaged = Tree(lambda node: checked(node, nodes.get(node)), tree.root)
    with pytest.raises(LedgerBroken, match=damage):
        list(damaged.items())
