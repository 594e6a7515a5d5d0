"""Checkpoints, and what witnesses say of them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.ledger.checkpoints import Checkpoint
from audit.ledger.cosignatures import cosign, cosignatures, cosigned_at
from audit.ledger.notes import (
    COSIGNATURE_V1,
    BadSignature,
    Note,
    Signature,
    SigningKey,
    VerifierKey,
)
from tests.test_notes import KEY, PETER, SUMDB_NOTE

# tlog-checkpoint, its example.
SOFA_TEXT = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
SOFA = Checkpoint(
    "example.com/behind-the-sofa",
    20852163,
    bytes.fromhex("0ac5186a91863e8e1d90c808014aa89bf5da8e3ee1d9f07630f0378f68f1ab62"),
)
SOFA_NOTE = f"""{SOFA_TEXT}
— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
"""  # noqa: E501

# A real one, signed by a log in RFC 6962's way and cosigned by a witness, from tlog-scales' tests.
ARCHE_NOTE = """\
arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

— arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=
— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==
"""  # noqa: E501
ARCHE = VerifierKey.parse(
    "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f"
)
REMORA = VerifierKey.parse("remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2")

# Signed by openssl with the Go package's example key, taken for a witness.
WITNESS = SigningKey.parse(
    "PRIVATE+KEY+PeterNeumann+18b9780b+BIEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
)
WITNESS_LINE = (
    "— PeterNeumann GLl4CwAAAABkGFDLJeR//pqzhnEKVvEm2wWbh2RJ6oru5+cUUfm5X9NnlaGr8aSH"
    "9QE5RVZD4QGlxl2F5UpVIIi94p178KLfqPPsAA=="
)
SECOND = datetime(2023, 3, 20, 12, 25, 47, tzinfo=UTC)  # 1679315147

lines = st.text(
    st.characters(exclude_categories=["Cs"], min_codepoint=0x20), min_size=1, max_size=30
)
checkpoints = st.builds(
    Checkpoint,
    lines,
    st.integers(0, 2**63 - 1),
    st.binary(min_size=32, max_size=32),
    st.lists(lines, max_size=3).map(tuple),
)


# --- checkpoints -------------------------------------------------------------------------------


def test_the_specifications_example_is_read_and_written():
    assert Checkpoint.parse(SOFA_TEXT) == SOFA
    assert SOFA.text() == SOFA_TEXT
    assert Checkpoint.parse(Note.parse(SOFA_NOTE).text) == SOFA


def test_an_origin_may_hold_spaces():
    checkpoint = Checkpoint.parse(Note.parse(SUMDB_NOTE).text)
    assert (checkpoint.origin, checkpoint.size) == ("go.sum database tree", 35225469)


def test_a_checkpoint_is_signed_as_openssl_signs_it():
    root = bytes.fromhex("9f91161f43433e49a6de6db680d79f60159f2e4ac9172621a12846428158440b")
    assert KEY.sign(Checkpoint("demo.example/log", 5, root).text()) == (
        "demo.example/log\n5\nn5EWH0NDPkmm3m22gNefYBWfLkrJFyYhoShGQoFYRAs=\n\n"
        "— demo.example/log 8a7xueIFRFqbekbfyrXr07Tk2fgxFQjou46P+5sdnmFFo4lVfkdEf1QHA0uC"
        "YilJXDkPt1UEB7fav8oZlQaxvCUsIAE=\n"
    )


@settings(max_examples=100, deadline=None)
@given(checkpoints)
def test_every_checkpoint_reads_back(checkpoint):
    assert Checkpoint.parse(checkpoint.text()) == checkpoint
    assert Checkpoint.parse(Note.parse(KEY.sign(checkpoint.text())).text) == checkpoint


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "does not end with a newline"),
        (SOFA_TEXT[:-1], "does not end with a newline"),
        ("o\n5\n", "three lines"),
        (SOFA_TEXT.partition("\n")[2], "three lines"),
        ("\n" + SOFA_TEXT.partition("\n")[2], "the origin"),
        (SOFA_TEXT + "\n", "an extension line"),
        (SOFA_TEXT + "first\n\nthird\n", "an extension line"),
        (SOFA_TEXT.replace("\n", "\r\n"), "decimal"),
        (SOFA_TEXT.replace("208", "0208"), "decimal"),
        (SOFA_TEXT.replace("208", "-208"), "decimal"),
        (SOFA_TEXT.replace("208", "+208"), "decimal"),
        (SOFA_TEXT.replace("208", " 208"), "decimal"),
        (SOFA_TEXT.replace("208", "2_08"), "decimal"),
        (SOFA_TEXT.replace("208", "٢٠٨"), "decimal"),
        (SOFA_TEXT.replace("20852163", ""), "decimal"),
        (SOFA_TEXT.replace("20852163", "9" * 5000), "decimal"),
        (SOFA_TEXT.replace("20852163", str(2**63)), "2\\^63"),
        (SOFA_TEXT.replace("q2I=", "q2J="), "base64"),
        (SOFA_TEXT.replace("q2I=", "q2I"), "base64"),
        (SOFA_TEXT.replace("q2I=", "q2I= "), "base64"),
        (SOFA_TEXT.replace("q2I=", "q2I=AAAA"), "base64"),
        (SOFA_TEXT.replace("/", "_"), "base64"),
        (SOFA_TEXT.replace("CsUYapGG", ""), "26 bytes, not 32"),
        (SOFA_TEXT.replace("CsUYapGG", "CsUYapGGAAAA"), "35 bytes, not 32"),
        ("\x00" + SOFA_TEXT, "the origin"),
        ("\ud800" + SOFA_TEXT, "the origin"),
    ],
)
def test_what_is_not_a_checkpoint_to_the_letter_is_refused(text, why):
    with pytest.raises(ValueError, match=why):
        Checkpoint.parse(text)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (("", 1, bytes(32)), "the origin"),
        (("a\nb", 1, bytes(32)), "the origin"),
        (("a", -1, bytes(32)), "the size"),
        (("a", 2**63, bytes(32)), "the size"),
        (("a", 1, bytes(31)), "the root"),
        (("a", 1, bytes(32), ("",)), "an extension line"),
        (("a", 1, bytes(32), ("b\nc",)), "an extension line"),
    ],
)
def test_what_no_checkpoint_can_say_is_not_made(values, why):
    with pytest.raises(ValueError, match=why):
        Checkpoint(*values)


# --- cosignatures ------------------------------------------------------------------------------


def test_a_real_witnesss_cosignature_is_verified_beside_the_logs_own_signature():
    note = Note.parse(ARCHE_NOTE)
    (cosignature,) = cosignatures(note, [REMORA, WITNESS.verifier])
    assert cosignature.witness == REMORA
    assert cosignature.at == datetime(2026, 5, 23, 21, 50, 24, tzinfo=UTC)
    assert cosignature.signature == note.signatures[-1]
    assert note.verified([ARCHE, REMORA]).keys() == {ARCHE, REMORA}


def test_a_cosignature_is_made_as_openssl_makes_it():
    signature = cosign(SOFA, WITNESS, SECOND)
    assert str(signature) == WITNESS_LINE
    note = Note(SOFA_TEXT, (signature,))
    assert cosignatures(note, [WITNESS.verifier])[0].at == SECOND


def test_the_time_of_the_specifications_example_is_read():
    assert cosigned_at(Note.parse(SOFA_NOTE).signatures[1]) == SECOND


@pytest.mark.parametrize(
    "at",
    [
        SECOND.replace(microsecond=999_999),
        SECOND.astimezone(timezone(timedelta(hours=-5))),
    ],
)
def test_a_cosignature_is_of_a_whole_second_in_utc(at):
    assert str(cosign(SOFA, WITNESS, at)) == WITNESS_LINE


@pytest.mark.parametrize("at", [datetime(1970, 1, 1, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)])
def test_a_cosignature_of_no_time_is_not_made(at):
    with pytest.raises(ValueError, match="no cosignature can be of"):
        cosign(SOFA, WITNESS, at)


@settings(max_examples=50, deadline=None)
@given(checkpoints, st.datetimes(datetime(1970, 1, 2), timezones=st.just(UTC)))  # noqa: DTZ001
def test_every_checkpoint_can_be_cosigned_extensions_and_all(checkpoint, at):
    note = Note.parse(KEY.sign(checkpoint.text())).with_signatures(cosign(checkpoint, WITNESS, at))
    assert note.verified([KEY.verifier, WITNESS.verifier])
    assert cosignatures(note, [WITNESS.verifier])[0].at == at.replace(microsecond=0)
    with pytest.raises(BadSignature):
        cosignatures(Note(note.text + "more\n", note.signatures), [WITNESS.verifier])


def test_no_bit_of_a_cosignature_or_its_time_can_be_changed():
    signature = cosign(SOFA, WITNESS, SECOND)
    for bit in range(8 * len(signature.value)):
        changed = bytearray(signature.value)
        changed[bit // 8] ^= 1 << bit % 8
        note = Note(SOFA_TEXT, (Signature(signature.name, signature.key_id, bytes(changed)),))
        with pytest.raises(BadSignature):
            cosignatures(note, [WITNESS.verifier])


@pytest.mark.parametrize("seconds", [0, 2**63, 2**64 - 1])
def test_a_time_that_the_specification_forbids_is_no_cosignature(seconds):
    message = f"cosignature/v1\ntime {seconds}\n{SOFA_TEXT}".encode()
    note = Note(SOFA_TEXT, (WITNESS.signature(message, seconds.to_bytes(8)),))
    with pytest.raises(BadSignature):
        cosignatures(note, [WITNESS.verifier])


@pytest.mark.parametrize("seconds", [253402300800, 2**63 - 1])
def test_a_time_after_the_year_9999_is_refused_in_a_sentence(seconds):
    message = f"cosignature/v1\ntime {seconds}\n{SOFA_TEXT}".encode()
    note = Note(SOFA_TEXT, (WITNESS.signature(message, seconds.to_bytes(8)),))
    with pytest.raises(ValueError, match=f"by PeterNeumann is of no time: {seconds}"):
        cosignatures(note, [WITNESS.verifier])


@pytest.mark.parametrize("value", [b"x", bytes(8), bytes(71), bytes(73)])
def test_a_cosignature_of_another_length_is_wrong_and_not_an_error(value):
    signature = Signature(WITNESS.name, WITNESS.verifier.key_id, value)
    with pytest.raises(BadSignature):
        cosignatures(Note(SOFA_TEXT, (signature,)), [WITNESS.verifier])
    with pytest.raises(ValueError, match="is no cosignature/v1"):
        cosigned_at(signature)


def test_a_plain_signature_and_a_cosignature_are_not_taken_for_each_other():
    plain = SigningKey(WITNESS.name, WITNESS.seed)
    assert plain.verifier == PETER
    note = Note(SOFA_TEXT, (plain.signature(SOFA_TEXT.encode()), cosign(SOFA, WITNESS, SECOND)))
    assert list(note.verified([PETER])) == [PETER]
    assert [cosigned.witness for cosigned in cosignatures(note, [WITNESS.verifier])] == [
        WITNESS.verifier
    ]
    with pytest.raises(ValueError, match="not a witness's key"):
        cosignatures(note, [PETER])
    with pytest.raises(ValueError, match="not a cosigner's key"):
        cosign(SOFA, plain, SECOND)


def test_only_checkpoints_have_cosignatures():
    note = Note("Not a checkpoint.\n", (cosign(SOFA, WITNESS, SECOND),))
    with pytest.raises(ValueError, match="three lines"):
        cosignatures(note, [WITNESS.verifier])


def test_a_checkpoint_without_known_witnesses_is_simply_not_cosigned():
    stranger = SigningKey.generate("stranger.example", COSIGNATURE_V1).verifier
    assert cosignatures(Note.parse(ARCHE_NOTE), [stranger]) == []
    assert cosignatures(Note.parse(ARCHE_NOTE), []) == []
