"""Names and ids of blobs: whatever another member or a server chooses, it stays a plain name."""

import pytest
from pydantic import ValidationError

from unibus.crypto.encoding import b64u
from unibus.errors import InvalidInput
from unibus.model.blobs import BlobManifest, check_blob_id, check_blob_name

ID = b64u(bytes(32))


@pytest.mark.parametrize("name", ["a", "report 2.pdf", ".env", "-rf", "ключ.txt", "日本.png", "a" * 255, "..a"])
def test_names(name: str) -> None:
    assert check_blob_name(name) == name
    assert BlobManifest(name=name, size=0, key=ID).name == name


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "/", "a/b", "../a", "/etc/passwd", "a\\b", "..\\a", "a\0b", "a\nb", "\x1b[2J", "a\u202eb",
        "a\u200bb", "a\u2028b", "\ud800", "e\u0301", "a" * 256, "é" * 128,
    ],
    ids=ascii,
)  # fmt: skip
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(InvalidInput):
        check_blob_name(name)
    with pytest.raises(ValidationError):
        BlobManifest(name=name, size=0, key=ID)


def test_ids() -> None:
    assert check_blob_id(ID) == ID


@pytest.mark.parametrize(
    "text", ["", ".", "..", ID[:-1], ID + "A", ID[:-1] + "B", "../" + ID[3:], ID[:-1] + "\n", ID[:-1] + "=", "é" * 43]
)
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(InvalidInput):
        check_blob_id(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"name":"a","size":-1,"key":"%s"}',
        '{"name":"a","size":1.5,"key":"%s"}',
        '{"name":"a","size":9007199254740992,"key":"%s"}',
        '{"name":"a","size":1,"key":"%sA"}',
        '{"name":"a","size":1,"key":"%s","more":1}',
        '{"name":"a","size":1,"key":"%s","media_type":"no type"}',
        '{"name":"a","size":1}%.0s',
    ],
)
def test_manifests_that_make_no_sense(text: str) -> None:
    with pytest.raises(ValidationError):
        BlobManifest.model_validate_json(text % ID)
