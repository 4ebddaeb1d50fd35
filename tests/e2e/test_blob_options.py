"""The daemon's limits on blobs: what their flags take, and that they hold."""

import io
from pathlib import Path

import pytest

from tests.e2e.conftest import StartDaemon
from tests.support.daemon import refused
from tests.support.people import Place
from unibus.errors import InvalidInput, QuotaExceeded, TooLarge
from unibus.model.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("7", 7), ("3K", 3072), ("5M", 5 << 20), ("10G", 10 << 30), ("2t", 2 << 40)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "1.5G", "1GB", "1 G", "٣M", "9" * 13])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="such as 500M"):
        parse_size(text)


async def test_a_flag_that_takes_a_size_names_itself(data_dir: Path) -> None:
    status, said = await refused(data_dir, "--blob-max=lots")
    assert (status, said.count("\n")) == (1, 1)
    assert "--blob-max: a size is a number" in said


async def test_a_node_name_is_checked(data_dir: Path) -> None:
    status, said = await refused(data_dir, "--node-name=no de")
    assert (status, said.count("\n")) == (1, 1)
    assert "--node-name takes" in said


async def test_the_limits_hold_and_what_is_deleted_counts_no_more(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon("--blob-max=100K", "--blob-quota-user=150K", "--blob-quota-total=250K")
    place = Place(daemon.url, daemon.data_dir)
    await place.found("bob", "cyd")
    async with place.enter("ada") as ada, place.enter("bob") as bob, place.enter("cyd") as cyd:
        room = await ada.create_room("ops")
        await room.add("bob")
        await room.add("cyd")
        with pytest.raises(TooLarge, match="102400 bytes"):
            await room.put_blob(io.BytesIO(bytes(102400)), "x")
        blob = await room.put_blob(io.BytesIO(bytes(100_000)), "x")
        with pytest.raises(QuotaExceeded, match="bytes more in blobs"):
            await room.put_blob(io.BytesIO(bytes(100_000)), "x")
        await (await bob.room("ops")).put_blob(io.BytesIO(bytes(100_000)), "x")
        with pytest.raises(QuotaExceeded, match="the bus may store no more"):
            await (await cyd.room("ops")).put_blob(io.BytesIO(bytes(100_000)), "x")
        await room.delete_blob(blob)
        await (await cyd.room("ops")).put_blob(io.BytesIO(bytes(100_000)), "x")
