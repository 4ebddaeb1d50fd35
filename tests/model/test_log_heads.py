"""All heads of a log, in little memory: the same as a list of them."""

from hypothesis import given
from hypothesis import strategies as st

from unibus.crypto.heads import EMPTY, Head
from unibus.model.log_heads import LogHeads


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=6))
def test_every_head_is_found_again(digests: list[bytes]) -> None:
    heads, listed = LogHeads(), [Head(number, digest) for number, digest in enumerate(digests, 1)]
    for head in listed:
        heads.append(head)
    assert heads.last == (listed[-1] if listed else EMPTY)
    assert [heads.at(number) for number in range(1, len(listed) + 1)] == listed
    assert [heads.at(number) for number in (-1, 0, len(listed) + 1)] == [None] * 3
