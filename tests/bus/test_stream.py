"""The stream's settings: made once, left alone when they hold, brought back when somebody changed them."""

import asyncio
from pathlib import Path

import nats
import pytest

from tests.bus.stage import Logbook, TablePolicy
from tests.support.nats_server import nats_server
from unibus.bus import stream
from unibus.bus.links import Links
from unibus.bus.options import BusOptions
from unibus.bus.plane import BusPlane
from unibus.model.subjects import STREAM

SETTINGS = stream.wanted(1 << 20)


def test_settings_that_are_left_out_count_as_off() -> None:
    off = {name for name, value in SETTINGS.items() if value is False}
    assert off >= {"allow_direct", "allow_rollup_hdrs", "allow_msg_ttl", "allow_msg_schedules", "allow_atomic"}
    assert not stream.differs({name: value for name, value in SETTINGS.items() if name not in off}, SETTINGS)


def test_every_setting_that_differs_is_seen() -> None:
    for name in SETTINGS:
        assert stream.differs({**SETTINGS, name: "other"}, SETTINGS)


async def test_a_new_limit_takes_effect_at_the_next_start(tmp_path: Path) -> None:
    for limit in (1 << 20, 1 << 19):
        plane = BusPlane(BusOptions(tmp_path, port=0, max_payload=limit), TablePolicy(), Logbook().logger)
        await plane.start()
        await plane.stop()
        stored = (tmp_path / "nats" / "jetstream" / "CORE" / "streams" / "ROOMS" / "meta.inf").read_text()
        assert f'"max_msg_size":{limit}' in stored


@pytest.mark.parametrize(("bounded", "most"), [(True, 1 << 30), (False, -1)])
async def test_a_start_leaves_what_others_say_that_the_stream_may_hold(
    tmp_path: Path, bounded: bool, most: int
) -> None:
    async with nats_server(tmp_path, f'jetstream {{ store_dir: "{tmp_path}" }}') as server:
        client = await nats.connect(server.url)
        try:
            links = Links(client, client, client, asyncio.get_running_loop().create_future(), ())
            await links.jetstream(f"STREAM.CREATE.{STREAM}", {**SETTINGS, "max_bytes": 1 << 30, "max_msgs": 5})
            await stream.ensure(links, 1 << 20, bounded=bounded)
            found = (await client.jetstream().stream_info(STREAM)).config
            assert (found.max_bytes, found.max_msgs) == (most, -1)
        finally:
            await client.close()
