"""Errors to problems and back: nothing is lost on the way, and nothing that a server writes can do harm."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unibus.errors import BY_CODE, HeadConflict, NotFound, TooLarge, Unanswered, UnibusError, Unreachable, Untrusted
from unibus.model.problem import MAX_DETAIL, from_problem, plain_problem, to_problem

LOCAL = {code for code, kind in BY_CODE.items() if issubclass(kind, Untrusted | Unanswered)} | {
    "backup-invalid",
    "key-custody",
    "start-refused",
    "unreachable",
}


@pytest.mark.parametrize("code", sorted(set(BY_CODE) - LOCAL))
def test_an_error_comes_back_as_itself(code: str) -> None:
    error = BY_CODE[code]("what is wrong", sequence=7, hash="ab")
    problem = to_problem(error)
    assert problem["type"] == f"urn:unibus:problem:{code}"
    back = from_problem(error.status, json.dumps(problem).encode())
    assert type(back) is type(error)
    assert (back.message, dict(back.extra)) == ("what is wrong", {"sequence": 7, "hash": "ab"})


@pytest.mark.parametrize("code", sorted(LOCAL))
def test_a_server_cannot_claim_what_only_the_client_can_find(code: str) -> None:
    back = from_problem(500, json.dumps(to_problem(BY_CODE[code]("your key file is unsafe"))).encode())
    assert type(back) is UnibusError


def test_extra_members_cannot_pose_as_the_standard_ones() -> None:
    problem = to_problem(HeadConflict("moved on", status=200, type="about:blank", detail="all is well"))
    assert (problem["status"], problem["type"], problem["detail"]) == (
        409,
        "urn:unibus:problem:head-conflict",
        "moved on",
    )


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (502, b"<html>bad gateway</html>", Unreachable, "something between here and the daemon answered 502"),
        (504, b"", Unreachable, "something between here and the daemon answered 504"),
        (500, b"", UnibusError, "the server answered 500 without saying why"),
        (200, b"[1, 2]", UnibusError, "the server answered 200 without saying why"),
        (404, b'{"type": 7, "detail": ["x"], "title": {}}', UnibusError, "the server answered 404 without saying why"),
        (400, b'{"type": "urn:unibus:problem:from-the-future", "detail": "new"}', UnibusError, "new"),
        (405, json.dumps(plain_problem(405, "this address takes GET")).encode(), UnibusError, "this address takes GET"),
        (404, b'{"type": "urn:unibus:problem:not-found"}', NotFound, "there is nothing here for you"),
        (413, b'{"type": "urn:unibus:problem:too-large", "detail": "a", "detail": "b"}', UnibusError, "the server"),
        (413, b'{"type": "urn:unibus:problem:too-large", "self": 1, "message": 2, "detail": "a"}', TooLarge, "a"),
        (400, b"[" * 100_000, UnibusError, "the server answered 400"),
    ],
)
def test_answers_that_are_not_quite_ours(status: int, body: bytes, kind: type[UnibusError], message: str) -> None:
    back = from_problem(status, body)
    assert type(back) is kind
    assert back.message.startswith(message)


def test_a_detail_cannot_write_to_the_terminal() -> None:
    detail = "gone\x1b[2J\x07\r\nroot@host:~# \u202eevil" + "x" * 10_000
    back = from_problem(404, json.dumps({"type": "urn:unibus:problem:not-found", "detail": detail}).encode())
    assert back.message.startswith("gone [2J   root@host:~#  evil")
    assert len(back.message) <= MAX_DETAIL


@given(st.integers(100, 599), st.binary() | st.recursive(st.text(), st.lists).map(lambda v: json.dumps(v).encode()))
def test_no_answer_raises(status: int, body: bytes) -> None:
    assert from_problem(status, body).message
