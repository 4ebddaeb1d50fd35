"""What docs/protocol.md says of the wire is what the code puts there, and links between documents lead somewhere.

Tables are compared with the code's own tables, so that a new error, record type, route or subject fails here until it
is written down. Whether the prose around them is right, no test can tell.
"""

import inspect
import json
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.conftest import options
from tests.services.running import running
from unibus.bus import callout, callout_core, config, delivery_book, pace
from unibus.bus.permissions import permissions
from unibus.client import judge, signal_rules
from unibus.crypto import frames, httpsig, jws, sealing
from unibus.crypto.encoding import transcript
from unibus.daemon.node import Node
from unibus.errors import BY_CODE, UnibusError
from unibus.http import api
from unibus.http.auth import Authenticator
from unibus.http.limits import BURST_SECONDS, Limits
from unibus.http.nonces import ServerNonces
from unibus.model import bodies, subjects, wire
from unibus.model.names import room_name_stands
from unibus.model.problem import from_problem, to_problem
from unibus.services import gate, membership
from unibus.services.claims import Claims
from unibus.services.ports import Grants

ROOT = Path(__file__).parent.parent
LIMITS = Limits()
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")])


def rows(section: str) -> list[list[str]]:
    """The cells of all table rows below the heading `section`, headings of tables left out."""
    _, _, rest = PROTOCOL.partition(f"# {section}\n")
    assert rest, section
    lines = re.split(r"^#", rest, maxsplit=1, flags=re.MULTILINE)[0].splitlines()
    found = []
    for number, line in enumerate(lines):
        is_rule = line.startswith("| ---")
        is_heading = number + 1 < len(lines) and lines[number + 1].startswith("| ---")
        if line.startswith("|") and not is_rule and not is_heading:
            found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def names(text: str) -> set[str]:
    """What stands in backquotes in `text`."""
    return set(re.findall(r"`([^`]+)`", text))


def travels(error: type[UnibusError]) -> bool:
    """Whether a client takes the problem of this error for this error."""
    problem = json.dumps(to_problem(error())).encode()
    return type(from_problem(error.status, problem)) is error


def test_every_error_that_travels_stands_in_the_table_of_problems_and_no_other() -> None:
    told = {row[0].strip("`"): (int(row[1]), row[2]) for row in rows("Problems")}
    assert told == {code: (error.status, error.title) for code, error in BY_CODE.items() if travels(error)}


def test_every_error_that_a_client_finds_in_the_server_stands_in_the_trust_rules() -> None:
    told = set().union(*(names(row[1]) for row in rows("Trust rules of a client")))
    untrusted = BY_CODE["untrusted"]
    assert told == {code for code, error in BY_CODE.items() if issubclass(error, untrusted)}


async def test_every_metric_stands_in_the_table_of_metrics_and_no_other(tmp_path: Path) -> None:
    async with (
        Node(options(tmp_path / "data")) as node,
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{node.http_port}/metrics") as answer,
    ):
        shown = set(re.findall(r"^# TYPE (\w+)", await answer.text(), re.MULTILINE))
    table = (ROOT / "docs" / "operations.md").read_text().partition("| metric |")[2].partition("\n\n")[0]
    told = {name for row in table.splitlines()[2:] for name in names(row.split("|")[1])}
    assert told == shown


@pytest.mark.parametrize(
    ("section", "types"), [("The directory", bodies.DIRECTORY_TYPES), ("Rooms", bodies.ROOM_TYPES)]
)
def test_every_record_type_stands_in_its_table_with_its_members(
    section: str, types: dict[str, type[bodies.Strict]]
) -> None:
    told = {row[0].strip("`"): names(row[1]) - {"{}"} for row in rows(section)}
    assert told == {name: set(body.model_fields) for name, body in types.items()}


def test_optional_members_of_records_are_called_so() -> None:
    for section, types in (("The directory", bodies.DIRECTORY_TYPES), ("Rooms", bodies.ROOM_TYPES)):
        for name, text, *_ in rows(section):
            told = set(re.findall(r"optional `(\w+)`", text))
            fields = types[name.strip("`")].model_fields
            assert told == {field for field, info in fields.items() if not info.is_required()}, name


async def test_every_route_stands_in_the_table_of_routes_and_no_other(tmp_path: Path) -> None:
    async with running(tmp_path / "unibus.db") as node:
        claims = Claims(node.store, node.books)
        nonces = ServerNonces(secrets.token_bytes, time.monotonic)
        users = Authenticator(claims, nonces, bus_id=node.reading.bus_id, is_user=lambda _: False, clock=time.time)
        served = api.Api(
            users, users, node.membership, node.reading, node.gate, lambda: api.NatsPlace(None, 4250), time.time
        )
        routes = [f"{route.method} {route.path}" for route in served.operations()]
    assert [row[0].strip("`") for row in rows("Routes") if row[0].startswith(("`GET", "`POST"))] == routes


def test_every_model_of_the_routes_is_told_with_its_members() -> None:
    told = {row[0]: names(row[1]) for row in rows("Routes") if not row[0].startswith("`")}
    wanted = {name: getattr(wire, name) for name in told}
    assert told == {name: set(model.model_fields) for name, model in wanted.items()}
    used = {
        word
        for row in rows("Routes")
        for cell in row[2:4]
        for word in re.findall(r"[A-Z]\w+(?:View|Page|Request)", cell)
    }
    assert used <= set(told)


def test_every_subject_is_told() -> None:
    makers = {name for name, function in inspect.getmembers(subjects, inspect.isfunction)}
    said = {
        "room_messages": {subjects.room_messages("<room>", "<user>")},
        "room_signals": {
            subjects.room_signals("<room>", "<user>", "<to>"),
            subjects.room_signals("<room>", "<sender>"),
            subjects.room_signals("<room>", "<sender>", "<user>"),
        },
        "delivery": {subjects.delivery("<user>", "<token>")},
        "control": {subjects.control("<user>", subjects.DELIVER)},
        "events": {subjects.events("<user>")},
        "inbox_prefix": {subjects.inbox_prefix("<user>") + ".>"},
    }
    assert set(said) == makers
    assert {row[0].strip("`") for row in rows("The bus")} == {subjects.FLOW_CONTROL}.union(*said.values())


def test_the_table_of_subjects_is_what_a_connection_may_touch() -> None:
    granted = permissions(Grants("<user>", ("<room>",), ("<room>",)))
    told = [(row[1], (names(row[1]) or names(row[0])).pop()) for row in rows("The bus")]
    assert {subject for right, subject in told if right.startswith("publish")} == set(granted.publish)
    assert {subject for right, subject in told if right.startswith("subscribe")} == set(granted.subscribe)


def test_every_label_of_what_goes_over_the_wire_is_told() -> None:
    layers = (ROOT / "src" / "unibus" / layer for layer in ("crypto", "model"))
    source = "".join(path.read_text() for layer in layers for path in layer.rglob("*.py"))
    labels = set(re.findall(r'"(unibus [a-z ]+ v1)"', source))
    for purpose in (frames.MESSAGES, frames.signal_purpose("all")):
        labels |= {f"unibus {purpose.name}{part} v1" for part in ("", " key", " signature")}
    assert len(labels) > 5
    assert {label for label in labels if label not in PROTOCOL} == set()


def test_the_example_of_a_transcript_is_one() -> None:
    example = re.search(r"^0000000f[0-9a-f ]+$", PROTOCOL, re.MULTILINE)
    assert example is not None
    assert bytes.fromhex(example[0]) == transcript("unibus frame v1", "ab", b"\x01", 7)


def test_the_example_of_a_signed_request_is_that_of_the_vectors() -> None:
    vectors = json.loads((ROOT / "tests" / "vectors" / "http-signatures.json").read_text())
    [case] = [case for case in vectors["cases"] if case["name"] == "a write with a body"]
    assert all(f"{name}: {value}\n" in PROTOCOL for name, value in case["headers"].items())
    signed = httpsig.parse(*(case["headers"][name] for name in ("Signature-Input", "Signature", "Content-Digest")))
    httpsig.verify(signed, case["method"], case["target_uri"])
    lines = [
        f'"@method": {case["method"]}',
        f'"@target-uri": {case["target_uri"]}',
        f'"content-digest": {signed.digest}',
        f'"@signature-params": {signed.params}',
    ]
    assert "\n```\n" + "\n".join(lines) + "\n```\n" in PROTOCOL


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("record", f"{jws.MAX_BYTES:,} bytes"),
        ("card in a record", "4,096 characters"),
        ("body with a record", f"{LIMITS.record_body:,} bytes"),
        ("body with a record and sealed keys", f"{LIMITS.sealed_body:,} bytes, 10,000 sealed keys"),
        ("records, ids or keys in one page", f"{wire.PAGE}"),
        ("address without scheme and host", f"{LIMITS.target:,} bytes"),
        ("each header", f"{LIMITS.header:,} bytes"),
        ("headers", f"{LIMITS.headers}"),
        ("time for a body to arrive", f"{LIMITS.body_seconds:g} s"),
        ("time from headers to answer", f"{LIMITS.request_seconds:g} s"),
        ("HTTP connections", f"{LIMITS.connections}, {LIMITS.connections // 2} from one address"),
        ("records appended by one user", f"{LIMITS.appends_per_user} a second, {LIMITS.append_burst:,} at once"),
        ("requests of one user", f"{LIMITS.rate_per_user} a second, {LIMITS.rate_per_user * BURST_SECONDS:,} at once"),
        (
            "requests of one address",
            f"{LIMITS.rate_per_address} a second, {LIMITS.rate_per_address * BURST_SECONDS:,} at once",
        ),
        ("signature's window", f"{httpsig.WINDOW} s either way"),
        ("frame", f"{frames.MAX_FRAME:,} bytes"),
        ("frames in a session", f"{frames.MAX_COUNTER:,}"),
        ("rooms a connection carries", f"{gate.ROOMS_A_CONNECTION}"),
        ("data of a signal, a question or an answer", f"{signal_rules.MAX_SIGNAL:,} bytes"),
        ("CONNECT line", f"{config.MAX_CONTROL_LINE:,} bytes"),
        ("deliveries of one user", f"{delivery_book.MOST_PER_USER:,}"),
        ("NATS connections of one user", f"{callout.MOST_OF_ONE:,}"),
        ("subscriptions of one NATS connection", f"{config.MAX_SUBSCRIPTIONS:,}"),
        (
            "messages of one user",
            f"{pace.MESSAGES:,} a second, {pace.MESSAGES_AT_ONCE:,} at once; {pace.BYTES >> 20} MiB a second; "
            f"whoever sends more is cut off for {pace.KEPT_OUT:g} s",
        ),
        ("NATS logins from one address", f"{callout.LOGINS} a second, {callout.LOGINS_AT_ONCE} at once"),
        ("time to answer a callout, and so to connect", f"{config.AUTH_TIMEOUT} s"),
    ],
)
def test_limits_are_those_of_the_code(what: str, value: str) -> None:
    assert dict(rows("Limits"))[what] == value


@pytest.mark.parametrize(
    "said",
    [
        f"within {membership.CLOCK_TOLERANCE} s of its own clock",
        f"of {frames.OVERHEAD} to {frames.MAX_FRAME:,} bytes",
        f"less than {judge.REORDER} below the newest",
        f"{judge.SESSIONS_KEPT:,} of each reading",
        f"more than {signal_rules.FRESH_SECONDS} s from its hearer's clock",
        f"a random id of {signal_rules.ID_BYTES} bytes",
        *(f"`{word.decode()}`" for word in (signal_rules.QUESTION, signal_rules.ANSWER, signal_rules.DECLINED)),
        f"`{callout_core.ROOMS_PREFIX}<id>,<id>,…`",
        f"every {delivery_book.HEARTBEAT} s without frames",
        f"ends within {delivery_book.ABANDONED_AFTER} s",
        f"A sealed key is {sealing.SEALED_BYTES} bytes",
        sealing.SUITE,
    ],
)
def test_numbers_in_the_text_are_those_of_the_code(said: str) -> None:
    assert said in " ".join(PROTOCOL.split())


def test_the_characters_that_no_room_name_holds_are_those_listed() -> None:
    listed = re.search(r"U\+(0000–[0-9A-F, –]+)\.", " ".join(PROTOCOL.split()))
    assert listed is not None
    ends = (text.split("–") for text in listed[1].split(", "))
    told = {code for first, *last in ends for code in range(int(first, 16), int(last[0] if last else first, 16) + 1)}
    assert told == {code for code in range(0x110000) if not room_name_stands(f"a{chr(code)}a")}


def links() -> Iterator[tuple[Path, str]]:
    for document in DOCUMENTS:
        text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if not re.match(r"[a-z]+:", target):
                yield document, target


def anchors(document: Path) -> set[str]:
    """What a heading is called in a link, as the usual hosts of Markdown make it."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_between_documents_lead_somewhere() -> None:
    lost = []
    for document, link in links():
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(f"{document.relative_to(ROOT)} -> {link}")
    assert lost == []
    assert any(document.name == "protocol.md" for document, _ in links())
