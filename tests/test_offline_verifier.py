"""The assessor's verifier, on logs that are made here with nothing of the portal's.

What it must find is listed beside each tampering: exactly these kinds of fault, no others.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import json
import re
import subprocess
import sys
from base64 import b64encode, urlsafe_b64encode
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SCRIPT = Path(__file__).parent.parent / "static" / "audit" / "verify_log.py"
ORIGIN = "audit.example/log"
SIZE = 600  # two full tiles, a partial one, and a partial one above
SEEN = 1767225600  # 2026-01-01 00:00:00 UTC


def load_script():
    spec = importlib.util.spec_from_file_location("verify_log", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = load_script()


# --- a log, written a second time from the specifications --------------------------------------


class Signer:
    """An Ed25519 key with a name; type 1 signs logs, type 4 cosigns."""

    def __init__(self, seed, name=ORIGIN, type_=1):
        self.name, self.type = name, bytes([type_])
        self.private = Ed25519PrivateKey.from_private_bytes(bytes([seed] * 32))
        self.packed = self.type + self.private.public_key().public_bytes_raw()
        self.id = sha256(name.encode() + b"\n" + self.packed).digest()[:4]
        self.vkey = f"{name}+{self.id.hex()}+{b64encode(self.packed).decode()}"

    def line(self, text):
        if self.type == b"\x01":
            value = self.private.sign(text.encode())
        else:
            message = f"cosignature/v1\ntime {SEEN}\n{text}".encode()
            value = SEEN.to_bytes(8, "big") + self.private.sign(message)
        return f"— {self.name} {b64encode(self.id + value).decode()}\n"


KEY, SECOND, THIRD, STRANGER = (Signer(seed) for seed in (1, 2, 3, 9))
WITNESS = Signer(4, "witness.example/w", 4)


def note(text, *signers):
    return (text + "\n" + "".join(signer.line(text) for signer in signers)).encode()


def leaf(entry):
    return sha256(b"\x00" + entry).digest()


def mth(hashes):
    if len(hashes) < 2:
        return hashes[0] if hashes else sha256(b"").digest()
    k = 1 << ((len(hashes) - 1).bit_length() - 1)
    return sha256(b"\x01" + mth(hashes[:k]) + mth(hashes[k:])).digest()


def checkpoint(entries, *signers, origin=ORIGIN, root=None):
    root = root or mth([leaf(entry) for entry in entries])
    return note(f"{origin}\n{len(entries)}\n{b64encode(root).decode()}\n", *signers)


def tile_path(level, number, width):
    assert number < 1000
    return f"tile/{level}/{number:03}" + (f".p/{width}" if width < 256 else "")


def log(entries, *signers, origin=ORIGIN):
    """Every file of a log, by path."""
    files = {"checkpoint": checkpoint(entries, *signers, origin=origin)}
    row, level = [leaf(entry) for entry in entries], 0
    while row:
        parts = [row[at : at + 256] for at in range(0, len(row), 256)]
        for number, part in enumerate(parts):
            files[tile_path(level, number, len(part))] = b"".join(part)
        row, level = [mth(part) for part in parts if len(part) == 256], level + 1
    for number, at in enumerate(range(0, len(entries), 256)):
        part = entries[at : at + 256]
        files[tile_path("entries", number, len(part))] = bundle(part)
    return files


def bundle(entries):
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def disclosure(number, name, value):
    salt = b64url(sha256(f"{number}{name}".encode()).digest()[:16])
    return b64url(json.dumps([salt, name, value], separators=(",", ":")).encode())


def b64url(data):
    return urlsafe_b64encode(data).decode().rstrip("=")


def entry(number, **changed):
    personal = {"user_id": f"user-{number}", "context.note": "Zoë\x1b[2J\u202e"}
    event = {
        "action": "user_login_failed",
        "context": {"attempts": number},
        "id": f"019ca8f7-3c00-7000-8000-{number:012x}",
        "log": ORIGIN,
        "personal": {
            name: b64url(sha256(disclosure(number, name, value).encode()).digest())
            for name, value in personal.items()
        },
        "recorded_at": "2026-03-01T09:30:00.000005Z",
        "v": 1,
    } | changed
    return json.dumps(event, sort_keys=True, separators=(",", ":")).encode()


ENTRIES = [entry(n) for n in range(SIZE)]
GOOD = log(ENTRIES, KEY)


def put(folder, files):
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def arguments(folder, args, vkeys):
    keys = [text for key in vkeys for text in ("--vkey", key.vkey)]
    return [str(folder), *keys, *map(str, args)]


def run_alone(folder, *args, vkeys=(KEY,)):
    """Exit status and lines, as the assessor gets them. There is never a traceback."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments(folder, args, vkeys)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()


def run(folder, *args, vkeys=(KEY,)):
    """The same without a process of its own, which would take most of the time."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        status = script.main(arguments(folder, args, vkeys))
    out.seek(0)
    return status, out.read().splitlines()


def kinds(lines):
    """How often each kind of fault is named."""
    found = [line.partition(":")[0] for line in lines if re.match(r"[A-Z_]+: ", line)]
    return {kind: found.count(kind) for kind in sorted(found)}


def expect(folder, faults, *args, by=run, **options):
    """Run it; these kinds of fault, so often, and the right status and verdict."""
    status, lines = by(folder, *args, **options)
    assert kinds(lines) == dict(sorted(faults.items())), "\n".join(lines)
    assert status == (1 if faults else 0)
    verdict = "this log does not hold: " if faults else "all that was checked holds"
    assert lines[-1].startswith(f"verdict: {verdict}")
    return lines


# --- logs that hold ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 256, 257, SIZE])
def test_a_good_log_holds_at_any_size(tmp_path, size):
    put(tmp_path, log(ENTRIES[:size], KEY))
    lines = expect(tmp_path, {}, by=run_alone)
    assert f"ok: checkpoint: {ORIGIN}+{KEY.id.hex()} signed" in lines[0]
    assert f"ok: {size} entries lead to the signed root" in lines[-2]


def test_a_log_with_three_levels_of_tiles_holds_until_one_bit_is_flipped(tmp_path):
    files = log([ENTRIES[0].replace(b"0000000000", b"%010d" % n) for n in range(65_836)], KEY)
    files["tile/1/000"] = flipped(files["tile/1/000"], 8 * 32 * 77)
    put(tmp_path, files)
    (fault,) = (line for line in expect(tmp_path, {"TILE_MISMATCH": 1}) if line[0] == "T")
    assert fault == "TILE_MISMATCH: tile/1/000: hash 77 is not that of tile/0/077"


def test_the_full_tiles_of_a_log_that_grew_serve_an_older_checkpoint(tmp_path):
    put(tmp_path, log(ENTRIES[:512], KEY) | {"checkpoint": checkpoint(ENTRIES[:300], KEY)})
    (tmp_path / "tile/1/000.p").rename(tmp_path / "tile/1/unused")
    put(tmp_path, {"tile/1/000.p/1": mth([leaf(entry) for entry in ENTRIES[:256]])})
    expect(tmp_path, {})


def test_json_says_the_same(tmp_path):
    put(tmp_path, GOOD)
    status, lines = run_alone(tmp_path, "--json")
    document = json.loads("\n".join(lines))
    assert (status, document["holds"], document["faults"]) == (0, True, {})
    put(tmp_path, {"tile/0/000": flipped(GOOD["tile/0/000"], 9)})
    status, lines = run_alone(tmp_path, "--json")
    document = json.loads("\n".join(lines))
    assert (status, document["holds"], document["faults"]) == (1, False, {"TILE_MISMATCH": 1})
    faults = [line for line in document["lines"] if line["kind"] == "TILE_MISMATCH"]
    assert [line["text"][:9] for line in faults] == ["entry 0: "]


# --- what the specifications publish -----------------------------------------------------------


def test_it_verifies_the_note_that_the_specification_has_as_an_example():
    # c2sp.org/signed-note, "Example".
    key = script.Key("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")
    text = (
        "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6Tf"
        "Xppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
    )
    assert script.to_note(text).signed_by(key)
    with pytest.raises(script.Fault, match="BAD_SIGNATURE"):
        script.to_note(text.replace("example m", "exemplary m")).signed_by(key)


def test_its_tree_has_the_published_roots():
    # As in tests/test_merkle.py: the reference leaves of certificate logs, and two of their roots.
    tree = script.Tree()
    assert tree.root().hex()[:16] == "e3b0c44298fc1c14"
    inputs = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "6061626364656667")
    for data in inputs[:7]:
        tree.add(script.leaf_hash(bytes.fromhex(data)))
    assert tree.root().hex() == "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"
    tree.add(script.leaf_hash(bytes.fromhex(inputs[7] + "68696a6b6c6d6e6f")))
    assert tree.root().hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def test_it_is_written_in_python_3_9():
    ast.parse(SCRIPT.read_text(), feature_version=(3, 9))


# --- tampering ---------------------------------------------------------------------------------


def flipped(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def with_entries(changed):
    """The good log, but for other entries under the same tiles."""
    return {path: data for path, data in log(changed, KEY).items() if "entries" in path}


def changed(number, new):
    return [*ENTRIES[:number], new, *ENTRIES[number + 1 :]]


def swapped(one, two):
    entries = list(ENTRIES)
    entries[one], entries[two] = entries[two], entries[one]
    return entries


def signature_flipped():
    text, blank, _ = GOOD["checkpoint"].decode().rpartition("\n\n")
    value = KEY.id + flipped(KEY.private.sign((text + "\n").encode()), 99)
    return (text + blank + f"— {ORIGIN} {b64encode(value).decode()}\n").encode()


def text_changed(old, new):
    return GOOD["checkpoint"].replace(old, new)


EDITED = changed(5, entry(5, action="x"))
LAST = "tile/entries/002.p/88"
LEAVES, LAST_LEAVES, ABOVE = "tile/0/001", "tile/0/002.p/88", "tile/1/000.p/2"
TAMPERED = {
    "an entry edited": (with_entries(EDITED), {"LEAF_MISMATCH": 1}),
    "the last entry edited": (
        with_entries(changed(599, entry(599, action="x"))), {"LEAF_MISMATCH": 1}),
    "two entries swapped": (with_entries(swapped(3, 500)), {"LEAF_MISMATCH": 2}),
    "an entry deleted": ({LAST: bundle(ENTRIES[513:])}, {"MISSING_ROW": 1}),
    "an entry added": ({LAST: bundle([*ENTRIES[512:], entry(999)])}, {"MALFORMED": 1}),
    "an entry put in": (
        with_entries([*ENTRIES[:595], entry(999), *ENTRIES[595:-1]]), {"LEAF_MISMATCH": 5}),
    "entries missing": ({LAST: None}, {"MISSING_ROW": 1}),
    "leaves missing": ({LEAVES: None}, {"MISSING_ROW": 1}),
    "a tile missing": ({ABOVE: None}, {"MISSING_ROW": 1}),
    "entries and leaves missing, and a bit flipped": (
        {LAST: None, LAST_LEAVES: None, LEAVES: flipped(GOOD[LEAVES], 0)},
        {"MISSING_ROW": 2, "LEAF_MISMATCH": 1}),
    "entries and leaves missing": ({LAST: None, LAST_LEAVES: None}, {"MISSING_ROW": 2}),
    "all tiles missing": (
        {path: None for path in GOOD if path != "checkpoint"}, {"MISSING_ROW": 6}),
    "the checkpoint missing": ({"checkpoint": None}, {"MISSING_ROW": 1}),
    "a bit flipped in a full tile": (
        {LEAVES: flipped(GOOD[LEAVES], 4000)}, {"TILE_MISMATCH": 1}),
    "a bit flipped in a partial tile": (
        {LAST_LEAVES: flipped(GOOD[LAST_LEAVES], 8)}, {"TILE_MISMATCH": 1}),
    "a bit flipped above": ({ABOVE: flipped(GOOD[ABOVE], 300)}, {"TILE_MISMATCH": 1}),
    "an entry edited and a bit flipped": (
        with_entries(EDITED) | {LEAVES: flipped(GOOD[LEAVES], 0)},
        {"LEAF_MISMATCH": 2, "INCONSISTENT": 1}),
    "a tile cut": ({LEAVES: GOOD[LEAVES][:-1]}, {"MALFORMED": 1}),
    "a tile too long": ({LEAVES: GOOD[LEAVES] + bytes(32)}, {"MALFORMED": 1}),
    "a bundle cut": ({LAST: GOOD[LAST][:-1]}, {"MALFORMED": 1}),
    "a bundle cut in a length": ({LAST: GOOD[LAST] + b"\x01"}, {"MALFORMED": 1}),
    "another size": (
        {"checkpoint": text_changed(b"\n600\n", b"\n599\n")},
        {"BAD_SIGNATURE": 1, "MISSING_ROW": 2}),
    "a wrong signature": ({"checkpoint": signature_flipped()}, {"BAD_SIGNATURE": 1}),
    "no signature": (
        {"checkpoint": GOOD["checkpoint"].partition(b"\n\n")[0] + b"\n\n"}, {"MALFORMED": 1}),
    "signed by a stranger": ({"checkpoint": checkpoint(ENTRIES, STRANGER)}, {"UNKNOWN_KEY": 1}),
    "rewritten, not signed again": (
        log(EDITED, KEY) | {"checkpoint": GOOD["checkpoint"]}, {"INCONSISTENT": 1}),
    "rewritten, signed by a stranger": (log(EDITED, STRANGER), {"UNKNOWN_KEY": 1}),
    "a root of nothing": (
        {"checkpoint": checkpoint([], KEY, root=bytes(32))}, {"INCONSISTENT": 1}),
    "an entry there twice": (log(changed(400, entry(3)), KEY), {"DUPLICATE_EVENT": 1}),
    "another log's entry": (log(changed(9, entry(9, log="demo")), KEY), {"MALFORMED": 1}),
    "an entry of a later version": (log(changed(9, entry(9, v=2)), KEY), {"MALFORMED": 1}),
    "an entry without an id": (log(changed(9, entry(9, id=9)), KEY), {"MALFORMED": 1}),
    "an entry that is no event": (log(changed(9, b"[1]"), KEY), {"MALFORMED": 1}),
    "an entry that is not JSON": (log(changed(9, b'{"v":NaN}'), KEY), {"MALFORMED": 1}),
    "an entry that is not UTF-8": (log(changed(9, b'"\xff"'), KEY), {"MALFORMED": 1}),
    "a name twice": (log(changed(9, ENTRIES[9][:-1] + b',"v":1}'), KEY), {"MALFORMED": 1}),
    "an entry nested very deep": (log(changed(9, b"[" * 65535), KEY), {"MALFORMED": 1}),
    "a checkpoint that is not UTF-8": ({"checkpoint": b"\xff\xfe\n\n\x00"}, {"MALFORMED": 1}),
    "an empty checkpoint": ({"checkpoint": b""}, {"MALFORMED": 1}),
    "a checkpoint without end": ({"checkpoint": b"a\n" * 600_000}, {"MALFORMED": 1}),
    "a size with a sign": (
        {"checkpoint": text_changed(b"\n600\n", b"\n+600\n")}, {"MALFORMED": 1}),
    "a size without end": (
        {"checkpoint": text_changed(b"\n600\n", b"\n" + b"9" * 99_999 + b"\n")},
        {"MALFORMED": 1}),
}  # fmt: skip


@pytest.mark.parametrize("what", TAMPERED)
def test_tampering_is_named(tmp_path, what):
    changes, faults = TAMPERED[what]
    files = GOOD | changes
    put(tmp_path, {path: data for path, data in files.items() if data is not None})
    expect(tmp_path, faults)


def test_a_folder_in_the_place_of_a_file_is_one_line(tmp_path):
    put(tmp_path, GOOD)
    for path in ("checkpoint", "tile/0/000", LAST):
        (tmp_path / path).unlink()
        (tmp_path / path).mkdir()
    expect(tmp_path, {"MALFORMED": 1})
    (tmp_path / "checkpoint").rmdir()
    put(tmp_path, {"checkpoint": GOOD["checkpoint"]})
    expect(tmp_path, {"MALFORMED": 2})


def test_a_size_beyond_all_files_does_not_run_forever(tmp_path):
    text = f"{ORIGIN}\n{2**62}\n{b64encode(bytes(32)).decode()}\n"
    put(tmp_path, GOOD | {"checkpoint": note(text, KEY)})
    status, lines = run(tmp_path)
    assert status == 1
    assert kinds(lines)["MISSING_ROW"] == 21  # twenty, and how many more


def test_many_faults_are_counted_and_some_shown(tmp_path):
    put(tmp_path, GOOD | with_entries([entry(n, action="x") for n in range(SIZE)]))
    lines = run(tmp_path)[1]
    assert "LEAF_MISMATCH: and 580 more" in lines
    assert lines[-1] == "verdict: this log does not hold: 600 LEAF_MISMATCH"


# --- earlier checkpoints -----------------------------------------------------------------------


def test_a_log_extends_its_older_checkpoints(tmp_path):
    put(tmp_path / "log", GOOD)
    older = {f"checkpoints/{n:020}": checkpoint(ENTRIES[:n], KEY) for n in (0, 1, 255, 256, 300)}
    older |= {"checkpoint": checkpoint(ENTRIES[:599], KEY), "checkpoints/.1.new": b"half"}
    put(tmp_path / "older", older)
    put(tmp_path, {"now": GOOD["checkpoint"]})
    lines = expect(
        tmp_path / "log", {}, "--previous", tmp_path / "older", "--previous", tmp_path / "now"
    )
    assert "ok: 6 other checkpoints are beginnings of this log" in lines


STRANGERS = checkpoint(EDITED[:300], STRANGER)
OLDER = {
    "a longer log": (
        {"checkpoint": checkpoint([*ENTRIES, entry(600)], KEY)}, {"SIZE_ROLLBACK": 1}),
    "another root": ({"checkpoint": checkpoint(EDITED, KEY)}, {"SPLIT_VIEW": 1}),
    "another history": ({"checkpoint": checkpoint(EDITED[:300], KEY)}, {"INCONSISTENT": 1}),
    "two histories": (
        {f"checkpoints/{n}": checkpoint(some[:9], KEY) for n, some in enumerate((ENTRIES, EDITED))},
        {"SPLIT_VIEW": 1}),
    "a stranger's word": ({"checkpoint": STRANGERS}, {"UNKNOWN_KEY": 1}),
    "a wrong signature": ({"checkpoint": signature_flipped()}, {"BAD_SIGNATURE": 1}),
    "no checkpoint": ({"vkey": KEY.vkey.encode()}, {"MISSING_ROW": 1}),
    "something else": (
        {"checkpoints/a": b"\x00\xff", "checkpoints/b": GOOD["checkpoint"]}, {"MALFORMED": 1}),
}  # fmt: skip


@pytest.mark.parametrize("what", OLDER)
def test_a_published_checkpoint_tells_of(tmp_path, what):
    older, faults = OLDER[what]
    put(tmp_path / "log", GOOD)
    put(tmp_path / "older", older)
    expect(tmp_path / "log", faults, "--previous", tmp_path / "older")


def test_a_log_rewritten_and_signed_again_is_told_by_what_was_published(tmp_path):
    put(tmp_path / "log", log(EDITED, KEY))
    expect(tmp_path / "log", {})  # nothing within it can tell
    put(tmp_path / "older", {"checkpoint": checkpoint(ENTRIES[:300], KEY)})
    expect(tmp_path / "log", {"INCONSISTENT": 1}, "--previous", tmp_path / "older")


# --- witnesses ---------------------------------------------------------------------------------


def test_a_witness_tells_when_it_saw_the_log(tmp_path):
    other = Signer(5, "witness.example/other", 4)
    put(tmp_path, GOOD | {"checkpoint": checkpoint(ENTRIES, KEY, WITNESS, other)})
    lines = expect(tmp_path, {}, "--witness", WITNESS.vkey)
    seen = f"the witness {WITNESS.name} saw it at 2026-01-01 00:00:00 UTC"
    assert f"ok: checkpoint: {seen}" in lines
    assert not any(other.name in line for line in lines)


def test_a_witness_that_did_not_sign_is_missed(tmp_path):
    put(tmp_path, GOOD)
    expect(tmp_path, {"BAD_SIGNATURE": 1}, "--witness", WITNESS.vkey)
    forged = GOOD["checkpoint"] + WITNESS.line("another text\n").encode()
    put(tmp_path, {"checkpoint": forged})
    expect(tmp_path, {"BAD_SIGNATURE": 1}, "--witness", WITNESS.vkey)


# --- hand-overs --------------------------------------------------------------------------------


def handover(size, new, *signers, origin=ORIGIN):
    text = f"auditportal key handover v1\n{origin}\n{size}\n{new.vkey}\n"
    return note(text, *signers)


ONE = handover(200, SECOND, KEY, SECOND)
TWO = handover(500, THIRD, SECOND, THIRD)
BACK = handover(500, KEY, SECOND, KEY)
TAKEN_OVER = {  # hand-overs, size, who signed the checkpoint: which faults
    "one step": ([ONE], 600, SECOND, {}),
    "two steps": ([ONE, TWO], 600, THIRD, {}),
    "the old key at the very size": ([ONE], 200, KEY, {}),
    "the new key at the very size": ([ONE], 200, SECOND, {}),
    "two steps at one size": ([ONE, handover(200, THIRD, SECOND, THIRD)], 200, SECOND, {}),
    "there and back": ([ONE, BACK], 600, KEY, {}),
    "between there and back": ([ONE, BACK], 400, KEY, {"UNKNOWN_KEY": 1, "SIZE_ROLLBACK": 1}),
    "the old key after it": ([ONE], 201, KEY, {"UNKNOWN_KEY": 1}),
    "the new key before it": ([ONE], 199, SECOND, {"UNKNOWN_KEY": 1, "SIZE_ROLLBACK": 1}),
    "no hand-over": ([], 600, SECOND, {"UNKNOWN_KEY": 1}),
    "the first step missing": ([None, TWO], 600, THIRD, {"MISSING_ROW": 1, "UNKNOWN_KEY": 2}),
    "not signed by the old key": (
        [handover(200, SECOND, SECOND)], 600, SECOND, {"UNKNOWN_KEY": 2}),
    "not signed by the new key": ([handover(200, SECOND, KEY)], 600, KEY, {"BAD_SIGNATURE": 1}),
    "altered": ([ONE.replace(b"\n200\n", b"\n100\n")], 600, KEY, {"BAD_SIGNATURE": 1}),
    "another log's": (
        [handover(200, SECOND, KEY, SECOND, origin="demo")], 600, KEY, {"UNKNOWN_KEY": 1}),
    "handed over twice": (
        [ONE, handover(100, STRANGER, KEY, STRANGER)], 600, SECOND, {"UNKNOWN_KEY": 1}),
    "to itself, which changes nothing": ([handover(200, KEY, KEY)], 600, KEY, {}),
    "to a witness's key": ([handover(200, WITNESS, KEY)], 600, KEY, {"MALFORMED": 1}),
    "no hand-over at all": ([GOOD["checkpoint"]], 600, KEY, {"MALFORMED": 1}),
}  # fmt: skip


def as_files(handovers):
    numbered = enumerate(handovers, 1)
    return {f"handovers/{number:06}": note for number, note in numbered if note}


@pytest.mark.parametrize("what", TAKEN_OVER)
def test_trust_follows_hand_overs(tmp_path, what):
    handovers, size, signer, faults = TAKEN_OVER[what]
    put(tmp_path, log(ENTRIES[:size], signer) | as_files(handovers))
    expect(tmp_path, faults)


def test_a_hand_over_that_was_held_back_is_taken_from_what_was_published(tmp_path):
    put(tmp_path / "log", log(ENTRIES, KEY))
    put(tmp_path / "older", as_files([ONE]) | {"checkpoint": checkpoint(ENTRIES[:200], KEY)})
    expect(tmp_path / "log", {})
    expect(tmp_path / "log", {"UNKNOWN_KEY": 1}, "--previous", tmp_path / "older")


def test_a_key_named_twice_is_one_key(tmp_path):
    put(tmp_path, log(ENTRIES, KEY) | as_files([ONE]))
    expect(tmp_path, {"UNKNOWN_KEY": 1}, vkeys=[KEY, KEY])


def test_who_has_the_newest_key_needs_no_older_one(tmp_path):
    put(tmp_path, log(ENTRIES, THIRD) | as_files([ONE, TWO]))
    lines = expect(tmp_path, {}, vkeys=[THIRD])
    assert len([line for line in lines if line.startswith("note: handovers/")]) == 2


def test_a_key_that_handed_over_does_not_count_for_being_named_with_the_next(tmp_path):
    put(tmp_path, log(ENTRIES, KEY) | as_files([ONE]))
    expect(tmp_path, {"UNKNOWN_KEY": 1}, vkeys=[SECOND, KEY])
    put(tmp_path, {"checkpoint": checkpoint(ENTRIES, SECOND)})
    put(tmp_path / "older", {"checkpoint": checkpoint(ENTRIES[:150], KEY)})
    expect(tmp_path, {}, "--previous", tmp_path / "older", vkeys=[SECOND, KEY])


# --- single events -----------------------------------------------------------------------------


def path_of(index, hashes):
    """RFC 9162, section 2.1.3.1."""
    if len(hashes) == 1:
        return []
    k = 1 << ((len(hashes) - 1).bit_length() - 1)
    if index < k:
        return [*path_of(index, hashes[:k]), mth(hashes[k:])]
    return [*path_of(index - k, hashes[k:]), mth(hashes[:k])]


def proof(index, entries, *signers, extra="", said=None):
    hashes = path_of(index, [leaf(entry) for entry in entries])
    lines = "".join(f"{b64encode(hash).decode()}\n" for hash in hashes)
    head = f"c2sp.org/tlog-proof@v1\n{extra}index {index if said is None else said}\n{lines}\n"
    return head.encode() + checkpoint(entries, *signers)


def event(name, index, entries=ENTRIES[:300], *disclosures, signer=KEY, **options):
    """The three files of one event."""
    files = {
        f"{name}.tlog-proof": proof(index, entries, signer, **options),
        f"{name}.entry": ENTRIES[index],
    }
    if disclosures:
        files[f"{name}.disclosures"] = "".join(f"{text}\n" for text in disclosures).encode()
    return files


def test_single_events_are_proved_and_revealed(tmp_path):
    files = event("a", 7, ENTRIES[:300], disclosure(7, "user_id", "user-7"))
    files |= event("b", 299) | event("c", 0, ENTRIES[:1], extra="extra AAAA\n")
    put(tmp_path, files)
    lines = expect(tmp_path, {})
    assert (
        "ok: a.entry: event 019ca8f7-3c00-7000-8000-000000000007 is entry 7 of the 300"
        in (lines[0])
    )
    assert 'ok: a.disclosures, line 1: user_id was recorded as "user-7"' in lines
    assert "note: there is no checkpoint here: single events were checked, not the log" in lines


def test_what_is_revealed_cannot_command_the_terminal(tmp_path):
    put(tmp_path, event("a", 7, ENTRIES, disclosure(7, "context.note", "Zoë\x1b[2J\u202e")))
    lines = expect(tmp_path, {})
    assert lines[1].endswith(r'context.note was recorded as "Zoë\u001b[2J\u202e"')


def test_each_wrong_proof_is_named(tmp_path):
    good = proof(7, ENTRIES[:300], KEY)
    files = event("other-entry", 7) | {"other-entry.entry": ENTRIES[8]}
    files |= event("other-index", 7, said=8) | event("index-beyond", 7, said=300)
    first = b64encode(leaf(ENTRIES[6])) + b"\n"
    assert first in good
    files |= event("hash-more", 7) | {"hash-more.tlog-proof": good.replace(first, first * 2, 1)}
    files |= event("hash-fewer", 7) | {"hash-fewer.tlog-proof": good.replace(first, b"", 1)}
    files |= {"no-entry.tlog-proof": good}
    files |= event("stranger", 7, signer=STRANGER)
    files |= event("no-header", 7) | {"no-header.tlog-proof": good.replace(b"v1", b"v2", 1)}
    files |= event("no-index", 7) | {"no-index.tlog-proof": good.replace(b"index 7\n", b"", 1)}
    files |= event("bad-hash", 7) | {"bad-hash.tlog-proof": good.replace(first, b"AAAA\n", 1)}
    files |= event("binary", 7) | {"binary.tlog-proof": b"\x00\xff\xfe"}
    files |= event("demo", 0, [entry(0, log="demo")]) | {"demo.entry": entry(0, log="demo")}
    put(tmp_path, files)
    lines = expect(
        tmp_path, {"LEAF_MISMATCH": 5, "MISSING_ROW": 1, "UNKNOWN_KEY": 1, "MALFORMED": 5}
    )
    named = {line.split(": ")[1].partition(".")[0] for line in lines if line[:2].isupper()}
    assert named == {path.partition(".")[0] for path in files}


def test_each_wrong_disclosure_is_named(tmp_path):
    disclosures = [
        disclosure(7, "user_id", "user-8"),
        disclosure(8, "user_id", "user-7"),
        disclosure(7, "subject_id", "user-7"),
        disclosure(7, "user_id", "user-7") + "=",
        "not a disclosure",
        b64url(b'["salt","user_id"]'),
        b64url(b'["salt",["user_id"],1]'),
        b64url(b"[" * 9000),
        disclosure(7, "user_id", "user-7"),
    ]
    put(tmp_path, event("a", 7, ENTRIES, *disclosures))
    lines = expect(tmp_path, {"DISCLOSURE_MISMATCH": 4, "MALFORMED": 4})
    assert 'ok: a.disclosures, line 9: user_id was recorded as "user-7"' in lines


def test_a_proof_that_contradicts_the_log_is_a_split_view_or_another_history(tmp_path):
    files = GOOD | event("a", 7) | event("b", 7, EDITED) | event("c", 7, EDITED[:400])
    put(tmp_path, files | event("newer", 7, [*ENTRIES, entry(600)]))
    lines = expect(tmp_path, {"SPLIT_VIEW": 1, "INCONSISTENT": 1})
    assert "note: newer.tlog-proof: it is newer than this checkpoint, and not compared" in lines


def test_the_log_may_be_left_out_beside_proofs_but_is_missed_in_part(tmp_path):
    put(tmp_path, event("a", 7) | {"checkpoint": GOOD["checkpoint"]})
    lines = expect(tmp_path, {})
    assert "note: there are no tiles here: single events were checked, not the log" in lines
    put(tmp_path, {"tile/0/000": GOOD["tile/0/000"]})
    expect(tmp_path, {"MISSING_ROW": 5})


def test_a_witness_counts_for_proofs_too(tmp_path):
    put(tmp_path, event("a", 7, ENTRIES[:9]))
    expect(tmp_path, {"BAD_SIGNATURE": 1}, "--witness", WITNESS.vkey)
    put(tmp_path, {"a.tlog-proof": proof(7, ENTRIES[:9], KEY, WITNESS)})
    lines = expect(tmp_path, {}, "--witness", WITNESS.vkey)
    assert any("a.tlog-proof: the witness witness.example/w saw it" in line for line in lines)


# --- calling it wrongly ------------------------------------------------------------------------


def test_keys_may_stand_in_a_file(tmp_path):
    put(tmp_path / "log", GOOD)
    put(tmp_path, {"keys": f"{STRANGER.vkey}\n{KEY.vkey}\n".encode()})
    expect(tmp_path / "log", {}, "--vkey-file", tmp_path / "keys", vkeys=[])


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--vkey", "audit.example/log"],
        ["--vkey", KEY.vkey.replace(KEY.id.hex(), "00000000")],
        ["--vkey", KEY.vkey[:-4]],
        ["--vkey", WITNESS.vkey],
        ["--vkey", KEY.vkey, "--witness", KEY.vkey],
        ["--vkey", KEY.vkey, "--previous", "/nowhere/at/all"],
        ["--vkey-file", "/nowhere/at/all"],
    ],
)
def test_a_wrong_call_is_status_2(tmp_path, args):
    assert run_alone(tmp_path, *args, vkeys=[]) == (2, [])


def test_without_cryptography_it_says_what_it_needs(tmp_path):
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(SCRIPT), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stdout.startswith("verify_log.py needs the package 'cryptography'")
