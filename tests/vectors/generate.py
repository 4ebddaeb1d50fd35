"""Writes the test vectors beside it: `python -m tests.vectors.generate`. Run again, it changes nothing.

All secrets are fixed. The one thing that cannot be made twice, a sealed key, is taken from the file that is there.
Must only be run when the protocol has changed: a vector that changes breaks clients in other languages.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from tests.vectors.blobs import blob_vectors
from tests.vectors.changes import change_vectors
from tests.vectors.frames import frame_vectors
from tests.vectors.identities import card_vectors, nkey_vectors
from tests.vectors.keys import fresh_sealed, key_vectors, opens
from tests.vectors.logs import log_vectors

HERE = Path(__file__).parent


def vectors() -> Mapping[str, str]:
    """The text of every file, by name."""
    made = {
        "nkeys.json": nkey_vectors(),
        "identities.json": card_vectors(),
        "records.json": log_vectors(),
        "room-keys.json": key_vectors(_sealed()),
        "frames.json": frame_vectors(),
        "blobs.json": blob_vectors(),
        "changes.json": change_vectors(),
    }
    return {name: json.dumps(value, indent=1, ensure_ascii=False) + "\n" for name, value in made.items()}


def _sealed() -> bytes:
    path = HERE / "room-keys.json"
    if path.exists():
        kept = bytes.fromhex(json.loads(path.read_text("utf-8"))["sealed"][0]["sealed_hex"])
        if opens(kept):
            return kept
    return fresh_sealed()


def main() -> None:
    """Write the files."""
    for name, text in vectors().items():
        (HERE / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
