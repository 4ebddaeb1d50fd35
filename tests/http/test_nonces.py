"""What a node remembers of its own nonces: nothing is taken twice, whatever comes when, and the memory is bounded."""

import sys
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unibus.crypto.httpsig import is_server_nonce
from unibus.errors import NonceUnknown
from unibus.http.nonces import MOST, SECONDS, ServerNonces

ALICE, BOB = "U" + "A" * 55, "U" + "B" * 55


class Process:
    """The nonces of one run of one node, and a clock that a test sets. All random bytes of all of them differ."""

    random = count(1)

    def __init__(self, most: int = 3) -> None:
        self.now = 0.0
        self.nonces = ServerNonces(lambda size: next(self.random).to_bytes(size), lambda: self.now, most=most)

    def takes(self, server_nonce: str, nonce: str, user: str = ALICE) -> bool | None:
        """Whether a request is taken; None if its node's nonce is not known."""
        try:
            return self.nonces.claim(server_nonce, user, nonce)
        except NonceUnknown:
            return None

    def fill(self) -> None:
        """Have so much claimed that the next nonce is given out."""
        before, numbers = self.nonces.newest(), count()
        while self.nonces.newest() == before:
            assert self.takes(before, f"filling {next(numbers)}", BOB)


def test_what_is_given_out_may_stand_in_a_signature() -> None:
    assert is_server_nonce(Process().nonces.newest())


def test_a_claim_is_its_users_and_its_nonces() -> None:
    node = Process()
    first = node.nonces.newest()
    assert [node.takes(first, "a"), node.takes(first, "a")] == [True, False]
    assert node.takes(first, "a", BOB)
    node.fill()
    assert node.takes(node.nonces.newest(), "a")


def test_a_replay_finds_its_claim_or_no_nonce() -> None:
    node = Process()
    first = node.nonces.newest()
    assert node.takes(first, "a")
    node.fill()
    assert node.takes(first, "a") is False
    assert node.takes(first, "b") is True
    node.fill()
    assert node.takes(first, "a") is None
    assert node.takes(first, "c") is None
    with pytest.raises(NonceUnknown):
        node.nonces.check(first)


def test_another_run_or_another_node_knows_nothing_of_it() -> None:
    node, other = Process(), Process()
    assert node.takes(node.nonces.newest(), "a")
    assert other.takes(node.nonces.newest(), "a") is None
    assert other.takes("", "a") is None


def test_claims_under_the_older_nonce_cannot_grow_without_end() -> None:
    node = Process(most=5)
    first = node.nonces.newest()
    node.fill()
    taken = [node.takes(first, f"more {number}") for number in range(10)]
    assert taken == [True] * 5 + [None] * 5


def test_time_makes_way_for_the_next_nonce_where_something_was_claimed() -> None:
    node = Process()
    first = node.nonces.newest()
    node.now += 10 * SECONDS
    assert node.nonces.newest() == first
    assert node.takes(first, "a")
    second = node.nonces.newest()
    assert second != first
    node.now += SECONDS - 1
    assert node.nonces.newest() == second
    assert node.takes(first, "b")
    node.now += 1
    assert node.nonces.newest() != second
    assert node.takes(first, "c") is None
    assert node.takes(second, "c")


def test_an_idle_node_forgets_its_claims() -> None:
    node = Process(most=1000)
    for number in range(1500):
        assert node.takes(node.nonces.newest(), str(number))
    for _ in range(2):
        node.now += SECONDS
        node.nonces.newest()
    assert held(node.nonces) < 1000


def held(nonces: ServerNonces) -> int:
    """Bytes of all claims."""
    return sum(sys.getsizeof(claims) + sum(map(sys.getsizeof, claims)) for claims in nonces._claims.values())  # noqa: SLF001 - to measure it


def test_a_full_memory_is_eleven_megabytes() -> None:
    node = Process(most=MOST)
    for number in range(2 * MOST - 1):
        assert node.takes(node.nonces.newest(), f"{number:022}")
    assert held(node.nonces) < 11_000_000


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.sampled_from([0.0, 1.0, SECONDS])), max_size=60))
def test_whatever_comes_when_nothing_is_taken_twice(steps: list[tuple[int, int, float]]) -> None:
    """Each step names one of the nonces that were given out, with one of a few nonces of its own, some time later."""
    node = Process(most=4)
    out, taken = [node.nonces.newest()], set[tuple[str, int]]()
    for back, own, later in steps:
        node.now += later
        if node.nonces.newest() not in out:
            out.append(node.nonces.newest())
        named = out[max(0, len(out) - 1 - back)]
        answer = node.takes(named, str(own))
        assert answer is not True or (named, own) not in taken
        assert answer is not None or named != out[-1]
        if answer:
            taken.add((named, own))
