"""`nodes.env` is read strictly: every mistake has its name, and nothing passes that a shell or ssh would misread."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cluster.example import NODES, ROOT, example
from unibus.cluster.layout import NODES as NODES_FILE
from unibus.cluster.nodes import bracketed, parse
from unibus.errors import InvalidInput

SHIPPED = (ROOT / "deploy" / NODES_FILE).read_text()


def refused(text: str) -> str:
    with pytest.raises(InvalidInput) as error:
        parse(text)
    return error.value.message


def with_row(row: str) -> str:
    return f"{NODES}NODE={row}\n"


def test_the_shipped_file_names_every_placeholder() -> None:
    said = refused(SHIPPED)
    assert said == (
        "put the real values in place of <MAGNUS_PUBLIC_ADDRESS>, <MAGNUS_WIREGUARD_ADDRESS>, "
        "<HOMER_WIREGUARD_ADDRESS>, <DATARDOS_WIREGUARD_ADDRESS>"
    )


def test_the_shipped_file_holds_once_they_are_filled_in() -> None:
    values = iter(["198.51.100.7", "10.9.0.1", "10.9.0.2", "10.9.0.3"])
    rows = [line for line in SHIPPED.splitlines() if not line.startswith("#")]
    cluster = parse(re.sub(r"<\w+>", lambda _: next(values), "\n".join(rows)))
    assert [(node.name, str(node.public)) for node in cluster.nodes] == [
        ("magnus", "198.51.100.7"),
        ("homer", "141.94.69.66"),
        ("datardos", "51.91.100.142"),
    ]
    assert (cluster.http_port, cluster.nats_port, cluster.route_port, cluster.replicas) == (8470, 4250, 6250, 3)
    assert cluster.warnings == ()


def test_what_is_read() -> None:
    cluster = example()
    assert cluster.majority == 2
    assert [bracketed(node.public) for node in cluster.nodes] == ["192.0.2.1", "homer.example.org", "[2001:db8::3]"]
    assert [node.name for node in cluster.others("homer")] == ["magnus", "datardos"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("magnus 192.0.2.9 10.9.0.9 root /opt/unibus", "the name magnus stands there 2 times"),
        ("next 192.0.2.1 10.9.0.9 root /opt/unibus", "the address 192.0.2.1 stands there 2 times"),
        ("next 192.0.2.9 10.9.0.1 root /opt/unibus", "the address 10.9.0.1 stands there 2 times"),
        ("next 10.9.0.9 10.9.0.9 root /opt/unibus", "the address 10.9.0.9 stands there 2 times"),
        ("next 2001:0db8:0::3 10.9.0.9 root /opt/unibus", "the address 2001:db8::3 stands there 2 times"),
        ("next 141.94.69.666 10.9.0.9 root /opt/unibus", "'141.94.69.666' is no IP address or host name"),
        ("next 192.0.2.9 mesh.example root /opt/unibus", "'mesh.example' is no IP address"),
        ("next 0.0.0.0 10.9.0.9 root /opt/unibus", "'0.0.0.0' is no IP address"),
        ("next 192.0.2.9 224.0.0.1 root /opt/unibus", "'224.0.0.1' is no IP address"),
        ("next 192.0.2.9 fe80::1%eth0 root /opt/unibus", "'fe80::1%eth0' is no IP address"),
        ("next 192.0.2.9 10.9.0.9/24 root /opt/unibus", "'10.9.0.9/24' is no IP address"),
        ("next 192.0.2.9 10.9.0.9 root", "not 4 values"),
        ("next 192.0.2.9 10.9.0.9 root /opt/unibus x", "not 6 values"),
        ("Next 192.0.2.9 10.9.0.9 root /opt/unibus", "'Next' is no name"),
        ("../x 192.0.2.9 10.9.0.9 root /opt/unibus", "'../x' is no name"),
        # what ssh, rsync or a shell would take for something else
        ("next -oProxyCommand=x 10.9.0.9 root /opt/unibus", "'-oProxyCommand=x' is no IP address"),
        ("next a@b.example 10.9.0.9 root /opt/unibus", "'a@b.example' is no IP address"),
        ("next 192.0.2.9 10.9.0.9 -lroot /opt/unibus", "'-lroot' is no user"),
        ("next 192.0.2.9 10.9.0.9 root;id /opt/unibus", "'root;id' is no user"),
        ("next 192.0.2.9 10.9.0.9 root /opt/$(id)", "is no path"),
        ("next 192.0.2.9 10.9.0.9 root /opt/'unibus'", "is no path"),
        # where rsync --delete must never work
        ("next 192.0.2.9 10.9.0.9 root /", "is no path"),
        ("next 192.0.2.9 10.9.0.9 root /opt", "is no path"),
        ("next 192.0.2.9 10.9.0.9 root /etc/unibus", "is no path"),
        ("next 192.0.2.9 10.9.0.9 root /opt/../etc", "is no path"),
        ("next 192.0.2.9 10.9.0.9 root opt/unibus", "is no path"),
    ],
)
def test_a_row_that_does_not_hold_is_refused_by_name(row: str, reason: str) -> None:
    assert reason in refused(with_row(row))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("HTTP_PROT=8470", "'HTTP_PROT' is not known"),
        ("export HTTP_PORT=8470", "'export HTTP_PORT' is not known"),
        ("nonsense", "'nonsense' is not known"),
        ("HTTP_PORT=8471", "HTTP_PORT stands there twice"),
    ],
)
def test_a_line_that_is_not_known_is_refused(line: str, reason: str) -> None:
    assert reason in refused(NODES + line + "\n")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("HTTP_PORT=8470", "HTTP_PORT=0", "HTTP_PORT takes a port"),
        ("HTTP_PORT=8470", "HTTP_PORT=65536", "HTTP_PORT takes a port"),
        ("HTTP_PORT=8470", "HTTP_PORT=http", "HTTP_PORT takes a port"),
        ("HTTP_PORT=8470", "HTTP_PORT=٨٤٧٠", "HTTP_PORT takes a port"),
        ("HTTP_PORT=8470", "HTTP_PORT=4250", "have to differ"),
        ("CLUSTER_NAME=example", "CLUSTER_NAME=", "CLUSTER_NAME takes"),
        ("CLUSTER_NAME=example", 'CLUSTER_NAME="example"', "CLUSTER_NAME takes"),
        ("KV_REPLICAS=3", "KV_REPLICAS=2", "KV_REPLICAS takes 1, 3 or 5"),
        ("KV_REPLICAS=3", "KV_REPLICAS=5", "no more than there are nodes"),
    ],
)
def test_a_value_that_does_not_hold_is_refused(old: str, new: str, reason: str) -> None:
    assert reason in refused(NODES.replace(old, new))


def test_all_mistakes_are_told_at_once() -> None:
    said = refused("HTTP_PORT=0\nNODE=a b\nWHAT=1\n")
    assert all(part in said for part in ("line 3: 'WHAT'", "HTTP_PORT", "line 2: a NODE row has", "CLUSTER_NAME"))


def test_no_node_is_no_cluster() -> None:
    assert "there is no NODE row" in refused("CLUSTER_NAME=example\n")


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (with_row("next 192.0.2.9 10.9.0.9 root /opt/unibus"), "4 nodes outlive the loss of no more than 3 do"),
        (NODES.replace("KV_REPLICAS=3", "KV_REPLICAS=1"), "with KV_REPLICAS=1 the loss of one node"),
        (NODES.replace("10.9.0.1", "9.9.9.9"), "magnus: 9.9.9.9 is a public address"),
        (NODES.replace("10.9.0.1", "127.0.0.1"), "magnus: 127.0.0.1 is a loopback address"),
    ],
)
def test_what_is_allowed_and_worth_a_thought_is_a_warning(text: str, warning: str) -> None:
    (said,) = parse(text).warnings
    assert warning in said


@given(st.text(alphabet="NODE=<>/.-:#\n 019abc$;'\"\\\x00\u202e", max_size=200))
def test_whatever_stands_there_is_read_or_refused(text: str) -> None:
    for given_text in (text, f"{NODES}{text}", f"CLUSTER_NAME=a\nNODE={text}"):
        try:
            cluster = parse(given_text)
        except InvalidInput:
            continue
        for node in cluster.nodes:
            words = f"{node.name}{node.user}{node.path}"
            assert re.fullmatch(r"[A-Za-z0-9._/-]+", words)
