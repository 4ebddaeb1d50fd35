"""Which nodes are asked: what is given, what a server may add to it, and what it may not."""

import pytest
from yarl import URL

from unibus.client.nodes import MOST, Nodes, merged, parse_urls
from unibus.errors import InvalidInput

A, B, C = (URL(f"https://{name}.example/") for name in "abc")
PLAIN = URL("http://10.0.0.1:8470/")


def test_a_list_of_addresses_is_taken_in_its_order_each_once() -> None:
    assert parse_urls("https://b.example, https://a.example/,https://b.example") == (B, A)


@pytest.mark.parametrize(
    "text",
    ["", ",", "http://a,", "http://a,b", "https://a,http://b", ",".join(f"http://n{n}" for n in range(MOST + 1))],
)
def test_a_list_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_urls(text)


@pytest.mark.parametrize(
    "learnt",
    [
        "http://b.example",  # would be a way down to no TLS
        "https://127.0.0.1:8470",
        "https://localhost",
        "https://node.localhost.",
        "https://[::1]:8470",
        "https://0.0.0.0",
        "https://169.254.169.254",
        "https://127.1",
        "https://2130706433",
        "https://0x7f000001",
        "https://0X7F.1",
        "https://0177.0.0.1",
        "https://[::ffff:127.0.0.1]",
        "https://[::ffff:169.254.169.254]",
        "https://user:secret@b.example",
        "https://b.example/elsewhere",
        "https://b.example/?x=1",
        "file:///etc/passwd",
        "https://[::1",
        "https://" + "b" * 300,
        "",
        7,
        None,
        ["https://b.example"],
    ],
    ids=str,
)
def test_what_a_server_may_not_have_a_client_ask(learnt: object) -> None:
    assert merged([A], [learnt]) == (A,)


def test_what_a_server_may_add_comes_after_what_was_given() -> None:
    assert merged([A, B], ["https://c.example", "https://a.example/"]) == (A, B, C)
    assert merged([PLAIN], ["http://10.0.0.2:8470"]) == (PLAIN, URL("http://10.0.0.2:8470/"))
    assert merged([URL("http://127.0.0.1:1/")], ["http://127.0.0.1:2"]) == tuple(
        URL(f"http://127.0.0.1:{port}/") for port in (1, 2)
    )


def test_a_server_cannot_name_nodes_without_end_nor_push_out_what_was_given() -> None:
    found = merged([A, B], [f"https://n{number}.example" for number in range(1000)])
    assert len(found) == MOST
    assert found[:2] == (A, B)


def test_a_node_that_fails_comes_last_and_the_next_one_stays() -> None:
    nodes = Nodes([A, B, C])
    nodes.leave(A)
    nodes.leave(A)
    assert nodes.current == B
    nodes.leave(C)
    assert nodes.current == B
    nodes.leave(URL("https://unknown.example/"))
    assert len(nodes) == 3


def test_learning_keeps_the_one_that_works_and_forgets_what_is_no_longer_named() -> None:
    nodes = Nodes([A])
    assert not nodes.several
    nodes.learn(["https://b.example", "https://c.example"])
    nodes.leave(A)
    assert nodes.current == B
    nodes.learn(["https://b.example"])
    assert (nodes.current, len(nodes)) == (B, 2)
    nodes.learn([])
    assert (nodes.current, nodes.several) == (A, False)
