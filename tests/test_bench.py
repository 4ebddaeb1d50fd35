"""The benchmark: its arithmetic, its table, and one very small run of everything on the real programs."""

import asyncio
import json
import os
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bench.__main__ import LONG, SHORT, run
from bench.arrivals import Arrivals
from bench.cases.failover import AGAIN, first_success
from bench.cases.homeserver import several
from bench.cases.returning import returned
from bench.harness import Case, Metric, Row, Sample, Side, Spread, in_turn, percentile, rows, spread
from bench.herd import Up, all_up
from bench.plan import Plan
from bench.plots import PLOTS, Effort, plot
from bench.programs import program
from bench.render import document, number, table
from bench.svg import Chart, draw

from unibus.errors import StartRefused

TINY = Plan(
    rounds=1,
    long_rounds=1,
    publish_seconds=0.02,
    receive_bytes=100_000,
    receive_most=200,
    latency_messages=5,
    requests=64,
    windows=(64, 256),
    appends=20,
    connections=20,
    users=5,
    blob_bytes=2**20,
    idle_seconds=0.05,
    changes=2,
    sends=1,
    herd=20,
    restarts=1,
    kills=1,
    cuts=1,
    receivers=(2,),
    deliveries=20,
    rooms=200,
    records=400,
    members=12,
    newcomer_members=15,
)


def test_spread_is_median_and_extremes() -> None:
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 51.0), (0.99, 100.0), (1.0, 100.0)])
def test_percentile_is_one_of_the_values(share: float, expected: float) -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], share) == expected


async def test_sides_are_measured_in_turn_and_the_first_round_is_thrown_away() -> None:
    turns: list[str] = []

    def side(name: str) -> Side:
        async def measure() -> Sample:
            turns.append(name)
            return (float(len(turns)),)

        return Side(name, "", measure)

    samples = await in_turn(Case((Metric("turns", "n"),), (side("a"), side("b"))), rounds=2)
    assert "".join(turns) == "ababab"
    assert samples == [[(3.0,), (4.0,)], [(5.0,), (6.0,)]]


def one_row_each(samples: list[list[Sample]]) -> list[Row]:
    async def measure() -> Sample:
        raise AssertionError

    metrics = Metric("speed", "messages/s"), Metric("time", "ms", "<= 20")
    names = "unibus", "other (64 at once)"
    sides = tuple(Side(name, f"{name} promises", measure, (">= 4",)) for name in names)
    return rows(Case(metrics, sides), samples)


def test_ratios_are_taken_within_a_round() -> None:
    # The machine was ten times slower in the second round, for both: the ratio does not move.
    made = one_row_each([[(1000.0, 1.0), (100.0, 2.0)], [(100.0, 10.0), (10.0, 20.0)]])
    assert [(row.metric.name, row.side) for row in made] == [
        ("speed", "unibus"),
        ("speed", "other (64 at once)"),
        ("time", "unibus"),
        ("time", "other (64 at once)"),
    ]
    assert [row.ratio for row in made] == [None, Spread(10.0, 10.0, 10.0), None, Spread(0.5, 0.5, 0.5)]
    assert made[0].value == Spread(550.0, 100.0, 1000.0)
    assert [row.goal for row in made] == ["", ">= 4", "<= 20", ""]


def test_the_table_is_aligned_and_says_what_each_side_promises() -> None:
    lines = table(one_row_each([[(1000.0, 1.0), (100.0, 2.0)]])).splitlines()
    assert len({line.index(" × ") for line in lines if " × " in line and "0.50" not in line}) == 1
    assert lines[2].endswith("10.0 × (10.0 – 10.0)  >= 4")
    assert lines[-2:] == ["unibus  unibus promises", "other   other (64 at once) promises"]


@pytest.mark.parametrize(
    ("value", "text"), [(1234567.8, "1,234,568"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.0712, "0.07")]
)
def test_numbers_have_the_digits_that_mean_something(value: float, text: str) -> None:
    assert number(value) == text


def test_a_chart_shows_each_point_on_axes_of_whole_decades() -> None:
    drawn = draw(Chart("Rooms & users", "rooms", "seconds", {"a": [(10, 0.5), (1_000, 0.5)], "b": [(100, 20.0)]}))
    root = ElementTree.fromstring(drawn)  # noqa: S314 - our own text, made a line above
    texts = [element.text for element in root if element.tag.endswith("text")]
    assert texts == ["Rooms & users", "rooms", "seconds", "10", "100", "1k", "0.1", "1", "10", "100", "a", "b"]
    dots = [(element.get("cx"), element.get("cy")) for element in root if element.tag.endswith("circle")]
    assert dots[0][1] == dots[1][1], "what costs the same stands at the same height"
    assert dots[2][0] == "345.0", "a hundred is half way between ten and a thousand"


def test_those_who_come_back_are_summed_up() -> None:
    up = all_up([100.0 + number for number in range(100, 0, -1)], tries=150, refused=20)
    assert up == Up(first=101.0, half=151.0, most=200.0, last=200.0, count=100, tries=150, refused=20)
    assert returned(90.0, up) == (11.0, 61.0, 110.0, 110.0, 1.5, 1.2)


async def test_of_what_is_done_at_once_each_keeps_its_place() -> None:
    async def later(number: int) -> int:
        await asyncio.sleep((number % 3) / 1000)
        return number * 2

    rate, made = await several(range(40), later)
    assert made == [number * 2 for number in range(40)]
    assert rate > 0


async def test_how_long_it_took_is_up_to_the_first_success() -> None:
    answers = iter([False, False, True])

    async def attempt() -> bool:
        return next(answers)

    seconds, calls = await first_success(attempt)
    assert calls == 3
    assert seconds >= 2 * AGAIN


async def test_whoever_hears_of_many_knows_when_all_have_come() -> None:
    arrivals = Arrivals()
    arrivals.expect(2)
    arrivals.one()
    assert not arrivals.all_in.is_set()
    arrivals.one()
    await arrivals.all_in.wait()
    arrivals.expect(1)
    assert not arrivals.all_in.is_set()


async def test_growth_is_measured_and_drawn(tmp_path: Path) -> None:
    drawn = await plot("sizes", tmp_path, [16, 64], Effort(times=1, seconds=0.02))
    assert drawn.count("<circle ") == 2 * 2
    assert {"members", "rooms", "records", "connections", "sizes"} == set(PLOTS)


@pytest.mark.slow
@pytest.mark.timeout(180)  # a dozen processes, on a machine that may have others to run
async def test_everything_runs_and_is_measured(tmp_path: Path) -> None:
    machine, results = await run(tmp_path, TINY, list(SHORT.values()))
    assert list(dict.fromkeys(row.metric.name for row in results)) == [
        *("publish 128 B", "publish 4 KiB", "receive 128 B", "receive 4 KiB"),
        *("delivery, p50", "delivery, p99", "signed read"),
        *("signed append, sqlite", "signed append, kv", "authenticated connections"),
        *("blob, up", "blob, down", "blob, server's memory at most"),
        *("empty directory to healthy", "unibus --help", "idle, memory", "idle, of one core"),
    ]
    sound(results)
    assert json.loads(json.dumps(document(results, machine, 1.0)))["results"][0]["metric"]["name"] == "publish 128 B"


@pytest.mark.large
@pytest.mark.timeout(180)
async def test_what_takes_long_runs_too(tmp_path: Path) -> None:
    _, results = await run(tmp_path, TINY, list(LONG.values()))
    assert list(dict.fromkeys(row.metric.name for row in results)) == [
        *("signed append, kv of three", "leader killed, writes again", "and the calls it took", "1 to 2, 128 B"),
        *("rooms made", "members taken in", "messages, each waited for", "cut off, p50", "cut off, p99"),
        *("20 connected, memory", "20 cut off, one back", "20 cut off, half back", "20 cut off, 99 % back"),
        *(
            "20 cut off, all back",
            "their tries, for each",
            "connections the bus saw, for each",
            "who sends on meanwhile waits at most",
        ),
        *("and then, while the others come, p50", "and then, while the others come, p99"),
        *("one removal", "a newcomer opens a room", "with memory at most"),
        *("start on a grown bus", "its daemon's memory", "a user's first connection", "a room's first message"),
    ]
    sound(results)


def sound(results: list[Row]) -> None:
    """Each metric has one side that is unibus, all else is compared with it, and nothing is nothing."""
    assert all(row.value.low > 0 for row in results)
    assert all(row.ratio is None or row.ratio.low > 0 for row in results)
    assert sum(row.ratio is None for row in results) == len({row.metric.name for row in results})


async def test_a_program_that_does_not_start_is_named_with_its_last_word(tmp_path: Path) -> None:
    failing = [sys.executable, "-c", "import sys; print('nothing'); sys.exit('no luck today')"]
    with pytest.raises(StartRefused, match="errors did not start: no luck today"):
        async with program(failing, "port", tmp_path / "errors"):
            pytest.fail("it said that it started")


async def test_a_program_ends_with_its_use(tmp_path: Path) -> None:
    endless = [sys.executable, "-c", "import os, time; print('pid', os.getpid(), flush=True); time.sleep(600)"]
    async with program(endless, "pid", tmp_path / "errors") as pid:
        os.kill(int(pid), 0)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


async def test_ended_early_it_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    bench = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench", "--quick", "--directory", tmp_path),
        stderr=asyncio.subprocess.PIPE,
    )
    assert bench.stderr is not None
    assert await bench.stderr.readline() == "measuring publish 128 B …\n".encode()
    children = _children(bench.pid)
    bench.terminate()
    assert await bench.stderr.read() == b"bench: ended before it was done\n"
    assert await bench.wait() == 1
    assert len(children) == 4
    assert _left(children, tmp_path) == []


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _left(processes: list[int], directory: Path) -> list[object]:
    return [*(pid for pid in processes if Path(f"/proc/{pid}").exists()), *directory.iterdir()]
