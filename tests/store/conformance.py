"""The specification of `unibus.store.port.Store`, as tests that every engine passes unchanged.

An engine is put under it by a subclass that overrides one fixture, `open_store`. Nothing here may know an engine,
reach below the port, or be relaxed for one of them.
"""

import asyncio
from pathlib import Path

import pytest

from tests.store.racing_conformance import OpenStore, RacingConformance, Reopen
from unibus.errors import InvalidInput, StorageUnavailable
from unibus.store.port import Append, Entry, PositionTaken, Store
from unibus.store.snapshot import read_snapshot

# In byte order of their UTF-8. The names are traps: wildcards of LIKE and of NATS, case, a NUL, combining marks, and
# characters that sort differently in UTF-16.
NAMES = [
    "%",
    "*",
    "A/b",
    "_",
    "a",
    "a\0",
    "a\0b",
    "a b",
    "a%",
    "a.b",
    "a/",
    "a/b",
    "a/b/",
    "a>",
    "a_",
    "ab",
    "b",
    "e\u0301",
    "ß",
    "é",
    "\uffff",
    "\U0001f600",
]
MIB = 1024 * 1024


async def fill(store: Store, log: str, length: int) -> None:
    for position in range(1, length + 1):
        await store.append(Append(log, position, b"%d" % position))


class StoreConformance(RacingConformance):
    """All that a store promises. Subclasses override `open_store`; the rest stays as it is."""

    async def test_a_new_store_is_empty(self, store: Store) -> None:
        assert await store.last("log") is None
        assert await store.entries("log", 0, 10) == []
        assert await store.logs("", "", 10) == []
        assert await store.attachments("log", "name", 0, 10) == []
        assert await store.marks("", "", 10) == []

    async def test_entries_come_back_in_order_and_to_the_byte(self, store: Store) -> None:
        values = [b"", b"\0", b"'; DROP TABLE logs; --", bytes(range(256)), b"\xff" * MIB]
        for position, value in enumerate(values, 1):
            await store.append(Append("log", position, value))
        expected = [Entry(position, value) for position, value in enumerate(values, 1)]
        assert await store.entries("log", 0, 10) == expected
        assert await store.last("log") == expected[-1]

    async def test_logs_and_entries_are_counted(self, store: Store, reopen: Reopen) -> None:
        assert await store.counts("") == (0, 0)
        await fill(store, "log", 5)
        await fill(store, "another", 2)
        with pytest.raises(PositionTaken):
            await store.append(Append("log", 1, b"again"))
        # Very many of a kind may be counted in another way.
        await asyncio.gather(*(store.append(Append(f"room/{number}", 1, b"first")) for number in range(150)))
        await fill(store, "logbook", 1)
        assert await store.counts("") == (153, 158)
        store = await reopen(store)
        assert await store.counts("room/") == (150, 150)
        assert await store.counts("log") == (2, 6)
        assert await store.counts("logs") == (0, 0)

    async def test_after_and_limit_cut_out_a_page(self, store: Store) -> None:
        await fill(store, "log", 5)
        assert [entry.position for entry in await store.entries("log", 2, 2)] == [3, 4]
        assert [entry.position for entry in await store.entries("log", 4, 9)] == [5]
        assert await store.entries("log", 5, 9) == []

    @pytest.mark.parametrize("number", [-1, -(2**63), -(2**80)])
    async def test_numbers_below_zero_mean_the_beginning_and_nothing(self, store: Store, number: int) -> None:
        await store.append(Append("log", 1, b"v", {"a": b"x"}, {"m": b"y"}))
        assert len(await store.entries("log", number, 10)) == 1
        assert len(await store.attachments("log", "a", number, 10)) == 1
        assert await store.entries("log", 0, number) == []
        assert await store.attachments("log", "a", 0, number) == []
        assert await store.logs("", "", number) == []
        assert await store.marks("", "", number) == []

    @pytest.mark.parametrize("number", [2**63 - 1, 2**63, 2**80])
    async def test_numbers_beyond_any_machine_word_are_served(self, store: Store, number: int) -> None:
        await store.append(Append("log", 1, b"v", {"a": b"x"}, {"m": b"y"}))
        assert await store.entries("log", number, 10) == []
        assert await store.attachments("log", "a", number, 10) == []
        assert len(await store.entries("log", 0, number)) == 1
        assert await store.logs("", "", number) == ["log"]
        assert await store.marks("", "", number) == [("m", b"y")]
        assert await store.claim("name", number)
        assert not await store.claim("name", number)
        with pytest.raises(PositionTaken):
            await store.append(Append("log", number, b"w"))

    @pytest.mark.parametrize("position", [-1, 0, 1, 2, 4, 2**70])
    async def test_only_the_next_position_is_taken(self, store: Store, position: int) -> None:
        await fill(store, "log", 2)
        before = await store.entries("log", 0, 10)
        with pytest.raises(PositionTaken) as refused:
            await store.append(Append("log", position, b"other", {"name": b"x"}, {"mark": b"y"}))
        assert refused.value.length == 2
        assert await store.entries("log", 0, 10) == before
        assert await store.attachments("log", "name", -1, 10) == []
        assert await store.marks("", "", 10) == []
        await store.append(Append("log", 3, b"3"))

    async def test_a_refused_first_entry_makes_no_log(self, store: Store) -> None:
        with pytest.raises(PositionTaken) as refused:
            await store.append(Append("log", 2, b"v"))
        assert refused.value.length == 0
        assert await store.logs("", "", 10) == []

    async def test_logs_do_not_touch_each_other(self, store: Store) -> None:
        for position in (1, 2):
            for name in NAMES:
                await store.append(Append(name, position, name.encode() + b"%d" % position))
        for name in NAMES:
            assert await store.last(name) == Entry(2, name.encode() + b"2")

    async def test_an_append_is_seen_by_its_writer_at_once(self, store: Store) -> None:
        for position in range(1, 50):
            await store.append(Append("log", position, b"v"))
            last = await store.last("log")
            assert last is not None
            assert last.position == position

    async def test_names_are_listed_by_prefix_in_byte_order(self, store: Store) -> None:
        assert sorted(NAMES, key=str.encode) == NAMES
        for name in reversed(NAMES):
            await store.append(Append(name, 1, b"v", marks={name: b"m"}))
        for prefix in ("", *NAMES, "a/b/c", "\x7f"):
            expected = [name for name in NAMES if name.startswith(prefix)]
            assert await store.logs(prefix, "", 100) == expected
            assert await store.marks(prefix, "", 100) == [(name, b"m") for name in expected]

    async def test_lists_are_paged_by_the_last_name_seen(self, store: Store) -> None:
        for name in NAMES:
            await store.append(Append(name, 1, b"v", marks={name: b"m"}))
        logs: list[str] = []
        while page := await store.logs("", logs[-1] if logs else "", 3):
            assert len(page) <= 3
            logs += page
        marks: list[str] = []
        while found := await store.marks("", marks[-1] if marks else "", 3):
            marks += [name for name, _ in found]
        assert logs == marks == NAMES

    async def test_after_may_lie_anywhere(self, store: Store) -> None:
        for name in NAMES:
            await store.append(Append(name, 1, b"v"))
        for after in ("", "0", "a", "a/a", "zz", "\U0010ffff"):
            expected = [name for name in NAMES if name.startswith("a") and name.encode() > after.encode()]
            assert await store.logs("a", after, 100) == expected

    async def test_a_name_that_is_no_text_is_refused_by_name(self, store: Store) -> None:
        for change in (
            Append("\ud800", 1, b"v"),
            Append("log", 1, b"v", {"\ud800": b"x"}),
            Append("log", 1, b"v", {}, {"\ud800": b"x"}),
        ):
            with pytest.raises(InvalidInput):
                await store.append(change)
        with pytest.raises(InvalidInput):
            await store.claim("\ud800", 1)
        assert await store.logs("", "", 10) == []

    async def test_attachments_hang_on_their_entry_by_name(self, store: Store) -> None:
        await store.append(Append("log", 1, b"v", {"ann": b"1a", "bob": b""}))
        await store.append(Append("log", 2, b"v"))
        await store.append(Append("log", 3, b"v", {"ann": b"a" * MIB}))
        await store.append(Append("other", 1, b"v", {"ann": b"o"}))
        assert await store.attachments("log", "ann", 0, 10) == [Entry(1, b"1a"), Entry(3, b"a" * MIB)]
        assert await store.attachments("log", "ann", 1, 10) == [Entry(3, b"a" * MIB)]
        assert await store.attachments("log", "ann", 0, 1) == [Entry(1, b"1a")]
        assert await store.attachments("log", "bob", 0, 10) == [Entry(1, b"")]
        assert await store.attachments("log", "a%", 0, 10) == []
        assert await store.attachments("other", "ann", 0, 10) == [Entry(1, b"o")]

    async def test_marks_are_set_replaced_and_removed_across_logs(self, store: Store) -> None:
        await store.append(Append("one", 1, b"v", marks={"m/a": b"1", "m/b": b"", "gone": None}))
        assert await store.marks("", "", 10) == [("m/a", b"1"), ("m/b", b"")]
        await store.append(Append("two", 1, b"v", marks={"m/a": b"2", "m/b": None}))
        assert await store.marks("", "", 10) == [("m/a", b"2")]
        await store.append(Append("one", 2, b"v", marks={"m/b": b"3"}))
        assert await store.marks("m/", "", 10) == [("m/a", b"2"), ("m/b", b"3")]

    async def test_a_thousand_attachments_and_marks_are_one_append(self, store: Store) -> None:
        sealed = {f"member-{number:04}": b"%d" % number for number in range(1000)}
        await store.append(Append("log", 1, b"v", sealed, sealed))
        assert await store.marks("member-", "", 2000) == list(sealed.items())
        for name in ("member-0000", "member-0999"):
            assert await store.attachments("log", name, 0, 10) == [Entry(1, sealed[name])]

    async def test_entries_of_one_append_are_written_all_or_none(self, store: Store, reopen: Reopen) -> None:
        await store.append(Append("a", 1, b"a1", {"x": b"1"}, {"m": b"1"}), Append("tail", None, b"t1"))
        await store.append(Append("a", 2, b"a2"), Append("a", 3, b"a3"), Append("b", 1, b"b1", {}, {"m": b"2"}))
        refused = [
            (Append("tail", None, b"no", {"x": b"no"}, {"n": b"no"}), Append("a", 3, b"no")),
            (Append("a", 4, b"no"), Append("tail", 1, b"no")),
            (Append("new", 1, b"no"), Append("new", 3, b"no")),
        ]
        for changes in refused:
            with pytest.raises(PositionTaken):
                await store.append(*changes)
        await store.append(Append("tail", None, b"t2"))
        store = await reopen(store)
        assert [entry.value for entry in await store.entries("a", 0, 9)] == [b"a1", b"a2", b"a3"]
        assert await store.entries("tail", 0, 9) == [Entry(1, b"t1"), Entry(2, b"t2")]
        assert await store.logs("", "", 9) == ["a", "b", "tail"]
        assert await store.marks("", "", 9) == [("m", b"2")]
        assert await store.attachments("tail", "x", 0, 9) == []

    async def test_a_name_is_claimed_once(self, store: Store, reopen: Reopen) -> None:
        for name in ("", *NAMES):
            assert await store.claim(name, 100)
            assert not await store.claim(name, 100)
        store = await reopen(store)
        for name in ("", *NAMES):
            assert not await store.claim(name, 200)

    async def test_a_name_claimed_again_does_not_keep_others_from_theirs(
        self, store: Store, open_store: OpenStore
    ) -> None:
        other = await open_store()
        assert await other.claim("spent", 2**33)
        names = ["spent", *(f"{n}" for n in range(30)), "7"]
        claimed = await asyncio.gather(*(store.claim(name, 2**33) for name in names))
        assert claimed == [False, *[True] * 30, False]
        assert not any(await asyncio.gather(*(other.claim(name, 2**33) for name in names)))

    async def test_only_what_expired_is_forgotten(self, store: Store) -> None:
        for expires_at in (99, 100, 101):
            assert await store.claim(f"until {expires_at}", expires_at)
        assert await store.forget_claims(100) == 1
        assert await store.forget_claims(100) == 0
        assert [await store.claim(f"until {at}", 200) for at in (99, 100, 101)] == [True, False, False]

    async def test_a_later_attempt_does_not_prolong_a_claim(self, store: Store) -> None:
        assert await store.claim("name", 100)
        assert not await store.claim("name", 1000)
        assert await store.forget_claims(101) == 1

    async def test_an_expired_claim_holds_until_it_is_forgotten(self, store: Store) -> None:
        assert await store.claim("name", -5)
        assert not await store.claim("name", 100)

    async def test_everything_is_there_after_a_reopen(self, store: Store, reopen: Reopen) -> None:
        await store.append(Append("log", 1, b"v" * MIB, {"a": b"x"}, {"m": b"y", "n": b"z"}))
        await store.append(Append("log", 2, b"w", {}, {"n": None}))
        store = await reopen(store)
        assert await store.entries("log", 0, 10) == [Entry(1, b"v" * MIB), Entry(2, b"w")]
        assert await store.attachments("log", "a", 0, 10) == [Entry(1, b"x")]
        assert await store.marks("", "", 10) == [("m", b"y")]
        with pytest.raises(PositionTaken):
            await store.append(Append("log", 2, b"w"))

    async def test_closing_finishes_what_was_begun(self, store: Store, open_store: OpenStore) -> None:
        begun = [asyncio.create_task(store.append(Append(f"{n}", 1, b"v"))) for n in range(20)]
        await asyncio.sleep(0)
        await store.close()
        await asyncio.gather(*begun)
        assert len(await (await open_store()).logs("", "", 100)) == 20

    async def test_a_snapshot_is_all_but_the_claims(self, store: Store, tmp_path: Path) -> None:
        for log in NAMES:
            await store.append(Append(log, 1, log.encode(), {name: b"x" + name.encode() for name in NAMES}))
        await store.append(Append("log", 1, b"v" * MIB, {"a": b"x"}, dict.fromkeys(NAMES, b"m")))
        await store.append(Append("log", 2, b"w", {}, {NAMES[0]: None}))
        assert await store.claim("spent", 2**40)
        await store.snapshot(tmp_path / "copy")
        await store.append(Append("log", 3, b"later"))
        with read_snapshot(tmp_path / "copy") as copy:
            assert [(log, position) for log, position, _ in copy.heads()] == sorted(
                [("log", 2), *((name, 1) for name in NAMES)], key=lambda head: head[0].encode()
            )
            assert list(copy.entries("log")) == [(1, b"v" * MIB, {"a": b"x"}), (2, b"w", {})]
            assert list(copy.marks()) == [(name, b"m") for name in NAMES[1:]]
            for log in NAMES:
                attached = {name: b"x" + name.encode() for name in NAMES}
                assert list(copy.entries(log)) == [(1, log.encode(), attached)]
            assert list(copy.entries("none")) == []
        assert b"spent" not in (tmp_path / "copy").read_bytes()

    async def test_a_snapshot_is_of_one_moment(self, store: Store, tmp_path: Path) -> None:
        writing = asyncio.Event()

        async def write(log: str) -> None:
            for position in range(1, 300):
                await store.append(Append(log, position, b"v", {"a": b"x"}, {"m": b"%d" % position}))
                if position == 50:
                    writing.set()

        load = asyncio.create_task(write("log"))
        await writing.wait()
        await store.snapshot(tmp_path / "copy")
        await load
        with read_snapshot(tmp_path / "copy") as copy:
            ((_, length, _),) = copy.heads()
            assert [position for position, _, attached in copy.entries("log") if attached == {"a": b"x"}] == [
                *range(1, length + 1)
            ]
            assert list(copy.marks()) == [("m", b"%d" % length)]
        assert 50 <= length < 300

    async def test_a_closed_store_says_so(self, store: Store, tmp_path: Path) -> None:
        await store.close()
        await store.close()
        for attempt in (
            store.append(Append("log", 1, b"v")),
            store.last("log"),
            store.entries("log", 0, 1),
            store.logs("", "", 1),
            store.attachments("log", "a", 0, 1),
            store.marks("", "", 1),
            store.claim("name", 1),
            store.forget_claims(1),
            store.sync(),
            store.snapshot(tmp_path / "copy"),
            store.posture(),
            store.counts(""),
        ):
            with pytest.raises(StorageUnavailable, match="closed"):
                await attempt

    async def test_the_posture_names_the_engine_and_is_durable(self, store: Store) -> None:
        posture = await store.posture()
        assert isinstance(posture["engine"], str)
        assert posture["durable"] is True
        assert posture["reasons"] == []
