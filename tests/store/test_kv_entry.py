"""The KV engine's keys and entries: one text for one name, one entry for one append, and nothing else is read."""

import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.store.conformance import NAMES
from unibus.errors import InvalidInput
from unibus.store.kv_entry import (
    PART_BYTES,
    Run,
    Unreadable,
    claim_key,
    escape,
    gather,
    log_key,
    pack,
    read_head,
    read_log_key,
    unescape,
    unpack,
    unpack_run,
)
from unibus.store.port import Append
from unibus.store.sqlite import to_add

TAG = bytes(range(16))
TEXT = st.text(max_size=20)
BYTES = st.binary(max_size=20)
APPENDS = st.builds(
    Append,
    TEXT,
    st.integers(1, 2**62),
    BYTES,
    st.dictionaries(TEXT, BYTES, max_size=3),
    st.dictionaries(TEXT, st.none() | BYTES, max_size=3),
)


@given(TEXT | st.sampled_from(NAMES))
def test_a_name_is_one_token_that_every_nats_tool_takes(name: str) -> None:
    token = escape(name)
    assert re.fullmatch(r"[-/_=a-zA-Z0-9]+", token)  # NATS ADR-8, without the dot, which would divide it
    assert unescape(token) == name


@given(st.text(alphabet="=/aA0256EFe.*> \0é", max_size=8))
def test_no_name_has_a_second_token(token: str) -> None:
    try:
        name = unescape(token)
    except Unreadable:
        return
    assert escape(name) == token


@pytest.mark.parametrize("token", ["", "a.b", "=2e", "=61", "a=", "=4", "=FF", "==", "é", "a*"])
def test_what_escape_does_not_make_is_not_read(token: str) -> None:
    with pytest.raises(Unreadable):
        unescape(token)


@pytest.mark.parametrize(
    "key",
    [
        "log",
        "log.a",
        "log.a.1.2",
        "log.a.01",
        "log.a.-1",
        "log.a.+1",
        "log.a.x",
        "log.a.",
        "log..1",
        "log.a.١",
        "x.a.1",
    ],
)
def test_other_keys_are_no_entries(key: str) -> None:
    with pytest.raises(Unreadable):
        read_log_key(key)


@given(APPENDS)
def test_an_entry_comes_back_as_it_was(change: Append) -> None:
    position = change.position
    assert position is not None
    assert read_log_key(log_key(change.log, position)) == (change.log, position)
    entry = pack([to_add(change)], TAG)
    head = read_head(entry.data)
    assert (head.tag, head.digests, head.run, entry.parts) == (TAG, (), False, ())
    assert unpack(change.log, position, head.body) == change


@given(APPENDS, st.data())
def test_a_cut_entry_is_not_read(change: Append, data: st.DataObject) -> None:
    whole = pack([to_add(change)], TAG).data
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    try:
        read = unpack(change.log, 1, read_head(cut).body)
    except Unreadable:
        return
    # A mark less is an entry, too: that nothing is cut off is JetStream's to say.
    assert read.value == change.value
    assert read.attachments == change.attachments
    assert len(read.marks) < len(change.marks)


@given(BYTES)
def test_bytes_that_are_no_entry_are_refused_and_break_nothing(data: bytes) -> None:
    try:
        unpack("log", 1, read_head(b"\1" + TAG + bytes(4) + data).body)
    except Unreadable:
        return


@pytest.mark.parametrize("size", [PART_BYTES - 12, PART_BYTES - 11, 3 * PART_BYTES])
def test_what_is_too_large_for_a_message_is_in_parts(size: int) -> None:
    entry = pack([to_add(Append("log", 1, b"v" * size))], TAG)
    head = read_head(entry.data)
    assert len(head.digests) == len(entry.parts) == (size + 12 > PART_BYTES) * -(-(size + 12) // PART_BYTES)
    assert all(len(part) <= PART_BYTES for part in entry.parts)
    assert unpack("log", 1, head.body + b"".join(entry.parts)) == Append("log", 1, b"v" * size)


LINES = st.builds(Append, st.sampled_from("ab"), st.none(), BYTES)
OTHERS = st.builds(
    Append,
    st.sampled_from("ab"),
    st.none() | st.just(1),
    BYTES,
    st.dictionaries(TEXT, BYTES, max_size=1),
    st.dictionaries(TEXT, st.none() | BYTES, max_size=1),
)


def placed(changes: list[Append]) -> list[tuple[Append, int]]:
    """The changes, each with the position that it has when all of them are appended one after another."""
    reached: Counter[str] = Counter()
    found = []
    for change in changes:
        reached[change.log] += 1
        found.append((change, reached[change.log]))
    return found


def read_run(run: Run) -> list[Append]:
    label, head = run.adds[0].label, read_head(pack(run.adds, TAG).data)
    assert head.tag == TAG
    return unpack_run(label, run.first, head.body) if head.run else [unpack(label, run.first, head.body)]


@given(st.lists(LINES | OTHERS, max_size=12))
def test_what_shares_messages_comes_back_each_in_its_place_and_in_the_order_of_its_log(changes: list[Append]) -> None:
    entries = placed(changes)
    read = [each for run in gather((to_add(change), place) for change, place in entries) for each in read_run(run)]
    for log in "ab":
        wanted = [replace(change, position=place) for change, place in entries if change.log == log]
        assert [each for each in read if each.log == log] == wanted


def test_lines_of_a_batch_share_a_message_and_what_asks_for_a_place_has_one_of_its_own() -> None:
    changes = [
        each for n in range(1, 9) for each in (Append(f"room/{n}", 1, b"record"), Append("trail", None, b"line"))
    ]
    runs = gather((to_add(change), place) for change, place in placed(changes))
    assert sorted((run.adds[0].label, run.first, run.last) for run in runs) == [
        *((f"room/{n}", 1, 1) for n in range(1, 9)),
        ("trail", 1, 8),
    ]


@pytest.mark.parametrize(("size", "messages"), [(PART_BYTES // 4 - 4, 2), (PART_BYTES // 4 - 3, 3), (PART_BYTES, 8)])
def test_a_run_is_never_larger_than_a_message(size: int, messages: int) -> None:
    runs = gather((to_add(Append("trail", None, b"v" * size)), place) for place in range(1, 9))
    assert len(runs) == messages
    assert all(len(run.adds) == 1 or len(pack(run.adds, TAG).data) <= PART_BYTES + 17 for run in runs)


@given(st.lists(BYTES, min_size=2, max_size=5), st.data())
def test_a_cut_run_is_not_read_or_lacks_its_end(values: list[bytes], data: st.DataObject) -> None:
    whole = pack([to_add(Append("trail", None, value)) for value in values], TAG).data
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    try:
        read = unpack_run("trail", 1, read_head(cut).body)
    except Unreadable:
        return
    assert [each.value for each in read] == values[: len(read)]
    assert 1 < len(read) < len(values)


def test_a_run_of_nothing_is_not_read() -> None:
    with pytest.raises(Unreadable):
        read_head(b"\2" + TAG)


def test_names_that_are_no_text_or_too_long_are_refused() -> None:
    for name in ("\ud800", "a" * 1025, "." * 342):
        with pytest.raises(InvalidInput):
            log_key(name, 1)
    with pytest.raises(InvalidInput):
        claim_key("\ud800")
    assert len(claim_key("a" * 100_000)) == len("claim.") + 43
