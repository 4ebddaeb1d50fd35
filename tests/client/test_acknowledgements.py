"""What the bus answers to a frame: stored, refused for good and by which name, or worth another try."""

import json

import pytest

from unibus.client.outbox import ABSENT, FULL, read_ack
from unibus.errors import LimitReached, StorageUnavailable, UnibusError


def refused(code: int, reason: int, text: str = "why") -> bytes:
    return json.dumps({"error": {"code": code, "err_code": reason, "description": text}, "stream": "ROOMS"}).encode()


@pytest.mark.parametrize(
    ("data", "headers", "outcome"),
    [
        (b'{"stream":"ROOMS","seq":7}', None, 7),
        (b'{"stream":"ROOMS","seq":7,"duplicate":true}', None, 7),
        (b'{"stream":"ROOMS","seq":0}', None, None),
        (refused(429, 10167), None, None),
        (refused(503, 10077), None, None),
        (refused(503, 10008), None, None),
        (b"", {"Status": "503"}, None),
        (b"not json", None, None),
        (b"[]", None, None),
    ],
)
def test_what_is_stored_or_tried_again(data: bytes, headers: dict[str, str] | None, outcome: int | None) -> None:
    assert read_ack(data, headers) == outcome


@pytest.mark.parametrize(
    ("data", "error", "told"),
    [
        (refused(503, FULL), StorageUnavailable, "no room for more messages"),
        (refused(503, 10077, "maximum bytes exceeded"), StorageUnavailable, "no room for more messages"),
        (refused(503, 10077, "maximum messages exceeded"), StorageUnavailable, "no room for more messages"),
        (refused(400, 10054, "message size exceeds maximum allowed"), LimitReached, "message size exceeds"),
    ],
)
def test_what_is_refused_by_name(data: bytes, error: type[UnibusError], told: str) -> None:
    outcome = read_ack(data, None)
    assert type(outcome) is error
    assert told in outcome.message


def test_what_was_only_asked_for_is_absent_or_being_stored() -> None:
    assert read_ack(refused(400, 10071, "wrong last sequence: 7"), None) is ABSENT
    assert read_ack(refused(409, 10158, "duplicate message id is in process"), None) is None
