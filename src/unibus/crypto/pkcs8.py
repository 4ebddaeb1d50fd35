"""An Ed25519 seed under a passphrase: encrypted PKCS#8 in PEM (RFC 5958, RFC 7468), which openssl reads too.

The encryption is PBES2 (RFC 8018) with scrypt (RFC 7914) and AES-256-CBC. `cryptography` opens this form and does not
make it: what it makes has 2,048 rounds of PBKDF2, which is too few against a guesser. So the few bytes of ASN.1 around
the ciphertext are put together here.

CBC does not notice a change, which would open to another seed. So a line before the PEM, where other readers skip text
(RFC 7468, section 2), names the identity, and opening holds the seed to it. Must never write a key in the clear, nor
open one that was.
"""

import base64
import re
import unicodedata

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from unibus.crypto.nkeys import SigningKey
from unibus.errors import InvalidInput

SALT_BYTES, IV_BYTES = 16, 16
# OWASP's row for 16 MiB: as hard to guess as N = 2^17 with p = 1, and within what openssl computes unasked.
COST, BLOCK, LANES = 2**14, 8, 5
SHORTEST, LONGEST = 8, 1024  # bytes of a passphrase
_PBES2, _SCRYPT, _AES256_CBC = (
    bytes.fromhex(text) for text in ("2a864886f70d01050d", "2b06010401da47040b", "60864801650304012a")
)
_SEQUENCE, _INTEGER, _OCTETS, _OID = 0x30, 0x02, 0x04, 0x06
_NAMED = re.compile(rb"^unibus identity (\S{1,64})$", re.MULTILINE)
_BEGIN, _END = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n", b"-----END ENCRYPTED PRIVATE KEY-----\n"


def passphrase_bytes(text: str) -> bytes:
    """The bytes of a passphrase: UTF-8 in NFC, so that every keyboard gives the same. Raises InvalidInput."""
    try:
        return unicodedata.normalize("NFC", text).encode()
    except UnicodeEncodeError as error:
        raise InvalidInput("a passphrase is text in UTF-8") from error


def seal_seed(seed: bytes, passphrase: bytes, salt: bytes, iv: bytes) -> bytes:
    """The PEM of a 32-byte seed. `salt` and `iv` are 16 random bytes each, never used twice.

    Raises InvalidInput for a passphrase that is too short or too long.
    """
    if not SHORTEST <= len(passphrase) <= LONGEST:
        raise InvalidInput(f"a passphrase has {SHORTEST} to {LONGEST} bytes: a few random words make a good one")
    key = Ed25519PrivateKey.from_private_bytes(seed)
    padder = PKCS7(128).padder()
    clear = padder.update(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())) + padder.finalize()
    secret = Scrypt(salt, 32, n=COST, r=BLOCK, p=LANES).derive(passphrase)
    encryptor = Cipher(AES256(secret), CBC(iv)).encryptor()
    numbers = (_der(_INTEGER, number.to_bytes(2, "big").lstrip(b"\0")) for number in (COST, BLOCK, LANES))
    scrypt = _der(_SEQUENCE, _der(_OID, _SCRYPT), _der(_SEQUENCE, _der(_OCTETS, salt), *numbers))
    aes = _der(_SEQUENCE, _der(_OID, _AES256_CBC), _der(_OCTETS, iv))
    algorithm = _der(_SEQUENCE, _der(_OID, _PBES2), _der(_SEQUENCE, scrypt, aes))
    text = base64.b64encode(_der(_SEQUENCE, algorithm, _der(_OCTETS, encryptor.update(clear) + encryptor.finalize())))
    lines = (text[at : at + 64] + b"\n" for at in range(0, len(text), 64))
    return b"unibus identity " + SigningKey.from_seed(seed).public.encode() + b"\n" + _BEGIN + b"".join(lines) + _END


def open_seed(pem: bytes, passphrase: bytes) -> bytes:
    """The 32-byte seed in a PEM, however its PBES2 was made.

    Raises InvalidInput, which says whether the passphrase is wrong, the key another kind, or this no encrypted key.
    """
    if not passphrase:
        raise InvalidInput("the passphrase is empty")
    try:
        key = load_pem_private_key(pem, passphrase)
    except TypeError as error:
        raise InvalidInput("this key is not encrypted: only one under a passphrase is taken") from error
    except UnsupportedAlgorithm as error:
        raise InvalidInput("this key is encrypted in a way, or of a kind, that is not known here") from error
    except ValueError as error:
        if _BEGIN.strip() not in pem:
            raise InvalidInput("this is not an encrypted key (PKCS#8 in PEM)") from error
        raise InvalidInput("the passphrase is wrong, or the file is damaged") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidInput("this is a key of another kind: an identity is an Ed25519 key")
    seed = key.private_bytes_raw()
    named = _NAMED.search(pem)
    if named is not None and named[1] != SigningKey.from_seed(seed).public.encode():
        raise InvalidInput("the file is damaged: it opens to another identity than the one it names")
    return seed


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = bytes([len(content)]) if len(content) < 128 else bytes([0x81, len(content)])
    return bytes([tag]) + size + content
