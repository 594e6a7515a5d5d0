"""Signed notes and keys, against what other programs wrote."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.ledger.notes import (
    COSIGNATURE_V1,
    BadSignature,
    Note,
    Signature,
    SigningKey,
    UnknownKey,
    VerifierKey,
    parse_signatures,
    sign,
)

# golang.org/x/mod/sumdb/note: its documentation and note_test.go.
PETER_PRIVATE = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PETER_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
ENOCH_VKEY = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
PETER_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXg"
    "KvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCH_LINE = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01"
    "oOTGwnWLox33WWd1RvMc+QQ=\n"
)
PETER_NOTE = f"{TEXT}\n{PETER_LINE}"
BOTH_NOTE = f"{TEXT}\n{PETER_LINE}{ENOCH_LINE}"

# signed-note, "Example", and a checkpoint of the Go checksum database, from torchwood's tests.
EXAMPLE_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE_NOTE = """\
This is an example message.

— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
"""  # noqa: E501
SUMDB_VKEY = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
SUMDB_NOTE = """\
go.sum database tree
35225469
vt5T6GaLCXvyHFl9VUvvItR43XZxfLgftEcTyO3eJCQ=

— sum.golang.org Az3grpukl5AXaVfYkLiDGORx/DN2nlcS5kZHR5uYOBV2KA2HgXpD+gu9HHONebHLAyaKbbTM75QTtPydhKCExixSfwQ=
"""  # noqa: E501

PETER = VerifierKey.parse(PETER_VKEY)
ENOCH = VerifierKey.parse(ENOCH_VKEY)
KEY = SigningKey("demo.example/log", bytes(range(32)))

names = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"], exclude_characters="+"),
    min_size=1,
    max_size=20,
)
texts = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], min_codepoint=0x20), max_size=30), min_size=1
).map(lambda lines: "".join(f"{line}\n" for line in lines))
keys = st.builds(SigningKey, names, st.binary(min_size=32, max_size=32))


# --- what others wrote -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vkey", "note"),
    [
        (PETER_VKEY, PETER_NOTE),
        (ENOCH_VKEY, BOTH_NOTE),
        (EXAMPLE_VKEY, EXAMPLE_NOTE),
        (SUMDB_VKEY, SUMDB_NOTE),
    ],
)
def test_notes_of_other_programs_are_verified(vkey, note):
    key = VerifierKey.parse(vkey)
    assert key.text() == vkey
    assert list(Note.parse(note).verified([key])) == [key]
    assert str(Note.parse(note)) == note
    assert Note.parse(note.encode()) == Note.parse(note)


def test_a_note_is_signed_as_the_go_package_signs_it():
    peter = SigningKey.parse(PETER_PRIVATE)
    assert peter.text() == PETER_PRIVATE
    assert peter.verifier.text() == PETER_VKEY
    assert peter.sign(TEXT) == sign(TEXT, peter) == PETER_NOTE


def test_a_key_has_the_id_and_text_that_openssl_gives_it():
    assert KEY.verifier.text() == (
        "demo.example/log+f1aef1b9+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
    )
    assert KEY.text() == (
        "PRIVATE+KEY+demo.example/log+f1aef1b9+AQABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
    )


def test_the_same_key_is_another_one_for_cosignatures():
    witness = SigningKey(KEY.name, KEY.seed, COSIGNATURE_V1).verifier
    assert witness.key_id != KEY.verifier.key_id
    assert VerifierKey.parse(witness.text()) == witness != KEY.verifier


# --- who has signed ----------------------------------------------------------------------------


def test_every_known_key_that_signed_is_named_and_no_other():
    both = Note.parse(BOTH_NOTE)
    peters, enochs = both.signatures
    assert both.verified([ENOCH, PETER]) == {PETER: peters, ENOCH: enochs}
    assert both.verified([PETER, KEY.verifier]) == {PETER: peters}


def test_a_note_by_unknown_keys_only_says_who_claims_to_have_signed():
    note = Note.parse(BOTH_NOTE)
    assert note.signers([KEY.verifier]) == {}
    with pytest.raises(UnknownKey, match=r"PeterNeumann\+c74f20a3, EnochRoot\+af0cfe78"):
        note.verified([KEY.verifier])
    with pytest.raises(UnknownKey):
        note.verified([])


def test_a_bad_signature_by_a_known_key_refuses_the_note_whoever_else_signed_it():
    note = Note.parse(KEY.sign("Another text.\n")).with_signatures(*parse_signatures(ENOCH_LINE))
    assert list(note.verified([KEY.verifier, PETER])) == [KEY.verifier]
    with pytest.raises(BadSignature, match=r"EnochRoot\+af0cfe78 is not of this text"):
        note.verified([KEY.verifier, ENOCH])
    with pytest.raises(BadSignature):
        note.signers([ENOCH])


def test_a_bad_signature_is_found_behind_a_good_one_of_the_same_key():
    (good,) = parse_signatures(PETER_LINE)
    bad = Signature(good.name, good.key_id, bytes(64))
    assert Note(TEXT, (good, good)).verified([PETER]) == {PETER: good}
    with pytest.raises(BadSignature):
        Note(TEXT, (good, bad)).verified([PETER])


@pytest.mark.parametrize(
    "line",
    [
        Signature("Peter", PETER.key_id, bytes(64)),
        Signature(PETER.name, bytes(4), bytes(64)),
    ],
)
def test_a_signature_that_shares_only_the_name_or_only_the_id_is_ignored(line):
    note = Note.parse(PETER_NOTE).with_signatures(line)
    assert list(note.verified([PETER])) == [PETER]
    with pytest.raises(UnknownKey):
        Note(TEXT, (line,)).verified([PETER])


@pytest.mark.parametrize("value", [b"x", bytes(63), bytes(64), bytes(65), bytes(5000)])
def test_a_signature_of_any_length_is_wrong_and_not_an_error(value):
    with pytest.raises(BadSignature):
        Note(TEXT, (Signature(PETER.name, PETER.key_id, value),)).verified([PETER])


def test_a_newer_signature_takes_the_place_of_one_by_the_same_key():
    (good,) = parse_signatures(PETER_LINE)
    bad = Signature(good.name, good.key_id, bytes(64))
    assert str(Note(TEXT, (bad, *parse_signatures(ENOCH_LINE))).with_signatures(good)) == (
        f"{TEXT}\n{ENOCH_LINE}{PETER_LINE}"
    )


def test_no_bit_of_a_note_can_be_changed():
    note = bytearray(PETER_NOTE.encode())
    for at in range(len(note)):
        for bit in range(8):
            note[at] ^= 1 << bit
            with pytest.raises(ValueError, match=r"\w"):
                Note.parse(bytes(note)).verified([PETER])
            note[at] ^= 1 << bit
    assert Note.parse(bytes(note)).verified([PETER])


def test_nothing_can_be_cut_off_a_note():
    for length in range(len(PETER_NOTE)):
        with pytest.raises(ValueError, match=r"\w"):
            Note.parse(PETER_NOTE[:length]).verified([PETER])


@settings(max_examples=50, deadline=None)
@given(texts, st.lists(keys, min_size=1, max_size=4, unique_by=lambda key: key.name))
def test_every_text_can_be_signed_by_any_keys_and_reads_back_as_it_was(text, signers):
    note = sign(text, *signers)
    parsed = Note.parse(note.encode())
    assert str(parsed) == note
    assert parsed.text == text
    assert list(parsed.verified(key.verifier for key in signers)) == [
        key.verifier for key in signers
    ]
    with pytest.raises(BadSignature):
        Note("x" + text, parsed.signatures).verified([signers[-1].verifier])


# --- strictness --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("note", "why"),
    [
        ("", "an empty line"),
        (TEXT, "an empty line"),
        (TEXT + "\n", "and signature lines"),
        (TEXT + PETER_LINE, "an empty line"),
        (PETER_NOTE[:-1], "does not end with a newline"),
        (PETER_NOTE + "\n", "and signature lines"),
        (PETER_NOTE + "more\n", "a signature line is '— name base64', not 'more'"),
        (PETER_NOTE.replace("— ", "- "), "a signature line is"),
        (PETER_NOTE.replace("— ", "—  "), "a signature line is"),
        (PETER_NOTE.replace("=\n", "= \n"), "a signature line is"),
        (PETER_NOTE.replace("=\n", "\n"), "base64"),
        (PETER_NOTE.replace("nAM=", "nAN="), "base64"),  # a bit beyond the last byte is set
        (PETER_NOTE.replace("x08go/", "x08go_"), "base64"),
        (PETER_NOTE.replace("Peter", "Peter+"), "cannot name a key"),
        (PETER_NOTE.replace("Peter", "Peter\u00a0"), "cannot name a key"),
        (PETER_NOTE.replace("PeterNeumann", ""), "cannot name a key"),
        (f"{TEXT}\n— PeterNeumann x08gow==\n", "too short"),
        (PETER_NOTE.replace("\n", "\r\n"), "an empty line"),
        (PETER_NOTE.replace("your", "\tyour"), "plain text"),
        ("\x00" + PETER_NOTE, "plain text"),
        ("\ud800" + PETER_NOTE, "plain text"),
        (b"\xff" + PETER_NOTE.encode(), "utf-8"),
        (b"\xc0\x80" + PETER_NOTE.encode(), "utf-8"),
    ],
)
def test_what_is_not_a_note_to_the_letter_is_refused(note, why):
    with pytest.raises(ValueError, match=why):
        Note.parse(note)


@pytest.mark.parametrize("text", ["", "no newline", "a\rb\n", "\x1f\n", "\ud800\n"])
def test_what_no_note_can_say_is_not_signed(text):
    with pytest.raises(ValueError, match=r"newline|plain text|surrogates"):
        KEY.sign(text)


def test_the_text_ends_at_the_last_empty_line():
    text = "\n\nfirst\n\n— not a signature\n\n"
    assert Note.parse(KEY.sign(text)).text == text


def test_a_note_has_one_signature_at_least_and_a_hundred_at_most():
    (line,) = parse_signatures(PETER_LINE)
    assert Note.parse(f"{TEXT}\n{PETER_LINE * 100}").verified([PETER]) == {PETER: line}
    with pytest.raises(ValueError, match="100 signatures"):
        Note.parse(f"{TEXT}\n{PETER_LINE * 101}")
    with pytest.raises(ValueError, match="1 to 100 signatures"):
        sign(TEXT)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80) | texts.map(lambda text: text.encode() + PETER_LINE.encode()))
def test_any_bytes_are_a_note_that_reads_back_or_a_value_error(data):
    try:
        note = Note.parse(data)
    except ValueError:
        return
    assert str(note).encode() == data


# --- keys --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["", "My Portal", "a+b", "a\u00a0b", "a\u2003b", "a\nb", "a\x00b", "\u2028", "\ud800"]
)
def test_an_origin_that_cannot_name_a_key_is_refused(name):
    with pytest.raises(ValueError, match="no spaces, plus signs or control characters") as refused:
        SigningKey.generate(name)
    assert repr(name) in str(refused.value)
    with pytest.raises(ValueError, match="cannot name a key"):
        VerifierKey(name, bytes(32))


@pytest.mark.parametrize("name", ["a", "demo.example/log", "журнал.example", "日志", "é", "a:b@c?"])
def test_every_other_name_is_good(name):
    key = SigningKey.generate(name)
    assert VerifierKey.parse(key.verifier.text()) == key.verifier
    assert SigningKey.parse(key.text()) == key
    assert list(Note.parse(key.sign(TEXT)).verified([key.verifier])) == [key.verifier]


def test_two_generated_keys_are_two():
    assert SigningKey.generate("a") != SigningKey.generate("a")


def test_no_part_of_a_verifier_key_is_one_and_no_character_can_be_changed():
    parts = {PETER_VKEY[a:b] for a in range(len(PETER_VKEY)) for b in range(a, len(PETER_VKEY) + 1)}
    changed = {
        PETER_VKEY[:at] + chr(ord(PETER_VKEY[at]) ^ bit) + PETER_VKEY[at + 1 :]
        for at in range(len(PETER_VKEY))
        for bit in (1, 2, 4, 8, 16, 32, 64)
    }
    for text in (parts | changed) - {PETER_VKEY}:
        with pytest.raises(ValueError, match=r"\w"):
            VerifierKey.parse(text)


@pytest.mark.parametrize(
    ("vkey", "why"),
    [
        ("PeterNeumann", "a name, a key id and base64"),
        (PETER_VKEY.replace("c74f20a3", "C74F20A3"), "has the key id c74f20a3"),
        (PETER_VKEY.replace("c74f20a3", "c74f20a4"), "has the key id c74f20a3"),
        (f"{PETER_VKEY}\n", "base64"),
        # From the tests of the Go package, each with the key id that fits.
        (
            "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
            "canonical base64",
        ),
        (
            "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "signature type 0x65 are not known",
        ),
        ("a+00000000+AQ==", "has 32 bytes, not 0"),
        ("a+00000000+BgAA", "signature type 0x06 are not known"),
    ],
)
def test_what_is_not_a_verifier_key_is_refused_in_a_sentence(vkey, why):
    with pytest.raises(ValueError, match=re.escape(why)):
        VerifierKey.parse(vkey)


def test_a_private_key_is_not_told():
    secret = PETER_PRIVATE.rpartition("+A")[2][:20]
    assert secret not in repr(SigningKey.parse(PETER_PRIVATE))
    mangled = [
        PETER_PRIVATE[1:],
        PETER_PRIVATE.replace("c74f20a3", "c74f20a4"),
        PETER_PRIVATE.replace("c74f20a3+", ""),
        PETER_PRIVATE.replace("PeterNeumann+c74f20a3+", ""),
        PETER_PRIVATE.replace("PeterNeumann", ""),
        PETER_PRIVATE + "=",
        PETER_PRIVATE[:-4],
        PETER_PRIVATE + "\n",
        PETER_VKEY,
    ]
    for text in mangled:
        with pytest.raises(ValueError, match="key") as refused:
            SigningKey.parse(text)
        assert secret not in str(refused.value)


@settings(max_examples=50, deadline=None)
@given(keys, st.sampled_from([0x01, COSIGNATURE_V1]))
def test_every_key_reads_back(key, algorithm):
    key = SigningKey(key.name, key.seed, algorithm)
    assert SigningKey.parse(key.text()) == key
    assert VerifierKey.parse(key.verifier.text()) == key.verifier


def test_a_cosigners_key_signs_no_notes():
    with pytest.raises(ValueError, match="does not sign notes"):
        SigningKey.generate("witness.example", COSIGNATURE_V1).sign(TEXT)
