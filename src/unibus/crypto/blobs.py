"""Blobs as they leave the client: one random key a blob, its bytes in sealed chunks, its id the hash of all of them.

    chunk = AES-256-GCM (RFC 5116) of 65,536 plaintext bytes, the last of fewer or as many; tag of 16 bytes
    nonce = chunk's number (11 bytes, big endian, from 0) | 0x01 in the last chunk, else 0x00
    id    = base64url of the SHA-256 of all chunks

This is the STREAM construction (Hoang, Reyhanitabar, Rogaway and Vizár, 2015): a chunk left out, moved, added or cut
off does not open. An empty blob is one empty last chunk. The budget is 2^32 chunks a key, 256 TiB. A key must never
seal two different contents: `client.blobs` shows how it keeps that. Does no I/O.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from unibus.errors import BlobInvalid, InvalidInput, TooLarge

KEY_BYTES = 32
CHUNK = 65_536
TAG = 16
SEALED_CHUNK = CHUNK + TAG
MAX_CHUNKS = 2**32
MAX_PLAIN = MAX_CHUNKS * CHUNK


def chunks(size: int) -> int:
    """How many chunks `size` plaintext bytes make. Raises TooLarge beyond the budget of one key."""
    if size > MAX_PLAIN:
        raise TooLarge("a blob has at most 2^32 chunks, 256 TiB: store it in pieces")
    return max(1, -(-size // CHUNK))


def sealed_size(size: int) -> int:
    """How many bytes `size` plaintext bytes become."""
    return size + TAG * chunks(size)


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def seal_chunks(key: bytes, plain: bytes, first: int, *, ends: bool) -> bytes:
    """`plain` in sealed chunks, numbered from `first`. All are full but the last of a blob, which `ends` says it holds.

    Raises InvalidInput for bytes that cannot be those chunks, TooLarge beyond the budget.
    """
    count = max(1, -(-len(plain) // CHUNK)) if ends else len(plain) // CHUNK
    if not ends and len(plain) % CHUNK:
        raise InvalidInput("only a blob's last chunk may be short")
    if first + count > MAX_CHUNKS:
        raise TooLarge("a blob has at most 2^32 chunks, 256 TiB: store it in pieces")
    cipher, view = AESGCM(key), memoryview(plain)
    return b"".join(
        cipher.encrypt(_nonce(first + n, ends and n == count - 1), view[n * CHUNK : (n + 1) * CHUNK], None)
        for n in range(count)
    )


class Opener:
    """Opens a blob's chunks as they come, from chunk `first` on, and says by name what is wrong with them.

    Keeps back what may be the last chunk until `finish`: what it gave out before is whole and in its place, and only
    after `finish` returned is it known to be all.
    """

    def __init__(self, key: bytes, first: int = 0) -> None:
        self._cipher = AESGCM(key)
        self._number = first
        self._rest = b""

    def update(self, data: bytes) -> bytes:
        """The plaintext of all chunks that cannot be the last. Raises BlobInvalid."""
        self._rest += data
        count = max(0, len(self._rest) - 1) // SEALED_CHUNK
        ready, self._rest = memoryview(self._rest)[: count * SEALED_CHUNK], self._rest[count * SEALED_CHUNK :]
        return b"".join(self._open(ready[n * SEALED_CHUNK : (n + 1) * SEALED_CHUNK], last=False) for n in range(count))

    def finish(self) -> bytes:
        """The plaintext of the last chunk. Raises BlobInvalid."""
        return self._open(self._rest, last=True)

    def _open(self, sealed: bytes | memoryview, *, last: bool) -> bytes:
        plain = self._try(sealed, last=last)
        if plain is None:
            if self._try(sealed, last=not last) is None:
                raise BlobInvalid(f"the blob was altered: its chunk {self._number} is not what was stored there")
            raise BlobInvalid("the blob is cut short" if last else "the blob goes on after its end: it was extended")
        self._number += 1
        return plain

    def _try(self, sealed: bytes | memoryview, *, last: bool) -> bytes | None:
        try:
            return self._cipher.decrypt(_nonce(self._number, last), sealed, None)
        except InvalidTag:
            return None
