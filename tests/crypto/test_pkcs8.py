"""Seeds under a passphrase: what is written, what opens it, and what is refused."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from unibus.crypto.identity import Identity
from unibus.crypto.pkcs8 import open_seed, passphrase_bytes, seal_seed
from unibus.errors import InvalidInput

SEED = bytes(range(32))
PHRASE = b"correct horse battery"
SALT, IV = bytes(range(16)), bytes(range(16, 32))
# Written once by `openssl pkcs8 -topk8 -scrypt -scrypt_N 16384 -scrypt_r 8 -scrypt_p 5` from SEED under PHRASE.
BY_OPENSSL = (Path(__file__).parent / "by-openssl.pem").read_bytes()


def other(key: Ed25519PrivateKey | X25519PrivateKey, encryption: KeySerializationEncryption) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def test_a_seed_comes_back() -> None:
    pem = seal_seed(SEED, PHRASE, SALT, IV)
    assert open_seed(pem, PHRASE) == SEED
    assert SEED not in pem
    first, second, *rest = pem.splitlines()
    assert first.decode() == f"unibus identity {Identity.from_secret(SEED).user}"
    assert second == b"-----BEGIN ENCRYPTED PRIVATE KEY-----"
    assert all(len(line) <= 64 for line in rest)


def test_another_reader_finds_the_same_key() -> None:
    key = load_pem_private_key(seal_seed(SEED, PHRASE, SALT, IV), PHRASE)
    assert isinstance(key, Ed25519PrivateKey)
    assert key.private_bytes_raw() == SEED


def test_what_openssl_wrote_is_opened() -> None:
    assert open_seed(BY_OPENSSL, PHRASE) == SEED


def test_an_export_that_opens_to_another_identity_than_it_names_is_refused() -> None:
    named, pem = seal_seed(SEED, PHRASE, SALT, IV).split(b"\n", 1)
    stranger = seal_seed(bytes(32), PHRASE, IV, SALT).split(b"\n", 1)[0]
    assert named != stranger
    with pytest.raises(InvalidInput, match="opens to another identity"):
        open_seed(stranger + b"\n" + pem, PHRASE)
    assert open_seed(pem, PHRASE) == SEED  # a key of openssl's names nobody


def test_salt_and_iv_make_every_export_another() -> None:
    texts = {seal_seed(SEED, PHRASE, salt, iv) for salt in (SALT, IV) for iv in (SALT, IV)}
    assert len(texts) == 4


def test_a_wrong_passphrase_is_refused() -> None:
    pem = seal_seed(SEED, PHRASE, SALT, IV)
    with pytest.raises(InvalidInput, match="the passphrase is empty"):
        open_seed(pem, b"")
    for wrong in (PHRASE + b" ", PHRASE.upper(), b"\0" * 20):
        with pytest.raises(InvalidInput, match="the passphrase is wrong, or the file is damaged"):
            open_seed(pem, wrong)


def test_a_damaged_export_is_refused() -> None:
    pem = seal_seed(SEED, PHRASE, SALT, IV)
    lines = pem.splitlines(keepends=True)
    for row in range(2, len(lines) - 1):
        for at in (3, 20, len(lines[row]) - 8):
            line = lines[row][:at] + (b"A" if lines[row][at : at + 1] != b"A" else b"B") + lines[row][at + 1 :]
            with pytest.raises(InvalidInput):
                open_seed(b"".join([*lines[:row], line, *lines[row + 1 :]]), PHRASE)
    for cut in (pem[:40], pem[:100], pem[: len(pem) // 2]):
        with pytest.raises(InvalidInput):
            open_seed(cut, PHRASE)


@pytest.mark.parametrize(
    ("pem", "said"),
    [
        (b"", "not an encrypted key"),
        (b"SUAFPFJUIZEGP4XO2CBEWY72CZGFDXACX3LW6U7YIALHXF7A5ZEU5AN6JQ", "not an encrypted key"),
        (b"\xff" * 100, "not an encrypted key"),
        (other(Ed25519PrivateKey.from_private_bytes(SEED), NoEncryption()), "not encrypted"),
        (other(X25519PrivateKey.from_private_bytes(SEED), BestAvailableEncryption(PHRASE)), "another kind"),
    ],
    ids=["empty", "a seed", "noise", "in the clear", "x25519"],
)
def test_what_is_no_encrypted_identity_is_refused(pem: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        open_seed(pem, PHRASE)


@pytest.mark.parametrize("phrase", [b"", b"1234567", b"x" * 1025])
def test_a_passphrase_of_no_use_is_refused(phrase: bytes) -> None:
    with pytest.raises(InvalidInput, match="8 to 1024 bytes"):
        seal_seed(SEED, phrase, SALT, IV)


def test_a_passphrase_is_the_same_from_every_keyboard() -> None:
    assert passphrase_bytes("cafe\u0301") == passphrase_bytes("caf\u00e9") == "café".encode()
    with pytest.raises(InvalidInput):
        passphrase_bytes("\udcff")
