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
from cryptography.utils import Buffer

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


class Sealer:
    """Seals a blob's chunks, one at a time, into memory that is there: new memory would cost more than the sealing."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, number: int, plain: Buffer, into: memoryview, *, last: bool) -> int:
        """Seal chunk `number` to the beginning of `into`; how many bytes it became.

        Raises InvalidInput for bytes that cannot be that chunk, TooLarge beyond the budget.
        """
        size = len(plain)
        if size > CHUNK or (size < CHUNK and not last):
            raise InvalidInput("only a blob's last chunk may be short, and none is longer")
        if number >= MAX_CHUNKS:
            raise TooLarge("a blob has at most 2^32 chunks, 256 TiB: store it in pieces")
        return self._cipher.encrypt_into(_nonce(number, last), plain, None, into[: size + TAG])


def seal_chunks(key: bytes, plain: bytes, first: int, *, ends: bool) -> bytes:
    """`plain` in sealed chunks, numbered from `first`. All are full but the last of a blob, which `ends` says it holds.

    Raises as `Sealer.seal`.
    """
    count = max(1, -(-len(plain) // CHUNK)) if ends else -(-len(plain) // CHUNK)
    sealer, view, sealed = Sealer(key), memoryview(plain), memoryview(bytearray(len(plain) + TAG * count))
    for n in range(count):
        piece = view[n * CHUNK : (n + 1) * CHUNK]
        sealer.seal(first + n, piece, sealed[n * SEALED_CHUNK :], last=ends and n == count - 1)
    return bytes(sealed)


class Opener:
    """Opens a blob's chunks as they come, from chunk `first` on, and says by name what is wrong with them.

    Keeps back what may be the last chunk until `finish`: what it gave out before is whole and in its place, and only
    after `finish` returned is it known to be all.
    """

    def __init__(self, key: bytes, first: int = 0) -> None:
        self._cipher = AESGCM(key)
        self._number = first
        self._rest = bytearray(SEALED_CHUNK)
        self._kept = 0

    def update(self, data: Buffer, into: memoryview) -> int:
        """Open all chunks that cannot be the last to the beginning of `into`; how many bytes they are.

        `into` has room for `data` and one chunk more. Raises BlobInvalid.
        """
        view, size = memoryview(data), 0
        while view:
            # A chunk that came in one piece is opened where it lies; of others the pieces are put together first.
            if not self._kept and len(view) > SEALED_CHUNK:
                chunk, view = view[:SEALED_CHUNK], view[SEALED_CHUNK:]
            elif self._kept == SEALED_CHUNK:
                chunk, self._kept = memoryview(self._rest), 0
            else:
                piece = view[: SEALED_CHUNK - self._kept]
                self._rest[self._kept : self._kept + len(piece)] = piece
                self._kept, view = self._kept + len(piece), view[len(piece) :]
                continue
            size += self._open(chunk, into[size:], last=False)
        return size

    def finish(self, into: memoryview) -> int:
        """Open the last chunk to the beginning of `into`; how many bytes it is. Raises BlobInvalid."""
        return self._open(memoryview(self._rest)[: self._kept], into, last=True)

    def _open(self, sealed: memoryview, into: memoryview, *, last: bool) -> int:
        size = max(0, len(sealed) - TAG)
        if not self._try(sealed, into[:size], last=last):
            other = self._try(sealed, into[:size], last=not last)
            into[:size] = bytes(size)  # what does not open leaves its bytes there all the same
            if not other:
                raise BlobInvalid(f"the blob was altered: its chunk {self._number} is not what was stored there")
            raise BlobInvalid("the blob is cut short" if last else "the blob goes on after its end: it was extended")
        self._number += 1
        return size

    def _try(self, sealed: memoryview, into: memoryview, *, last: bool) -> bool:
        try:
            self._cipher.decrypt_into(_nonce(self._number, last), sealed, None, into)
        except InvalidTag:
            return False
        return True
