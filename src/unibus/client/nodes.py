"""The nodes of one bus that a client may ask, and in which order. Pure.

A node is asked until it fails and then comes last, so that a client stays where it is served. More nodes are learnt
from the bus. What a server says about others must never weaken whom the client trusts: what is learnt comes after what
was given, never without TLS where that was asked for, and never on this machine unless a given one is.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv6Address, ip_address

from yarl import URL

from unibus.errors import InvalidInput

MOST = 16
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")


def parse_url(text: str) -> URL:
    """The base URL of one node's control plane. Raises InvalidInput."""
    try:
        url = URL(text)
    except ValueError as error:
        raise InvalidInput(f"not a URL: {text!r}") from error
    beyond = url.user or url.password or url.path not in {"", "/"} or url.query_string or url.fragment
    if url.scheme not in {"http", "https"} or not url.host or beyond:
        raise InvalidInput(f"the URL of a daemon looks like http://host:8470, not {text!r}")
    return url.with_path("/")


def parse_urls(text: str) -> tuple[URL, ...]:
    """The nodes in a comma-separated list of URLs, each once, in their order. Raises InvalidInput."""
    found = tuple(dict.fromkeys(parse_url(part.strip()) for part in text.split(",")))
    if len(found) > MOST:
        raise InvalidInput(f"at most {MOST} nodes are asked: name fewer")
    if len({url.scheme for url in found}) > 1:
        raise InvalidInput("the nodes of one bus are all reached by https, or all by http")
    return found


def merged(given: Sequence[URL], learnt: Iterable[object]) -> tuple[URL, ...]:
    """`given`, and after them those of `learnt` (a server's word, of any form) that may be asked too. At most MOST."""
    nodes = dict.fromkeys(given)
    local = any(_is_local(url) for url in given)
    for text in learnt:
        try:
            url = parse_url(text) if isinstance(text, str) and len(text) <= 256 else None
        except InvalidInput:
            url = None
        if url is not None and url.scheme == given[0].scheme and (local or not _is_local(url)) and len(nodes) < MOST:
            nodes[url] = None
    return tuple(nodes)


def _is_local(url: URL) -> bool:
    host = (url.host or "").rstrip(".")
    try:
        address = ip_address(host)
    except ValueError:
        # What ends in a number is an address to the system, however it is written: 127.1, 0x7f000001.
        numeric = _NUMBER.fullmatch(host.rpartition(".")[2]) is not None
        return numeric or host == "localhost" or host.endswith(".localhost")
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return any(each.is_loopback or each.is_unspecified or each.is_link_local for each in (address, mapped or address))


class Nodes:
    """The nodes in the order in which they are asked: the first is the one that works."""

    def __init__(self, given: Sequence[URL]) -> None:
        self.given = tuple(given)
        self.on_leave: Callable[[URL], None] = lambda _: None
        """Told of each node that is left for another."""
        self._order = list(given)

    def __len__(self) -> int:
        return len(self._order)

    @property
    def current(self) -> URL:
        """The node to ask."""
        return self._order[0]

    @property
    def several(self) -> bool:
        """Whether there is another node to go to."""
        return len(self._order) > 1

    def leave(self, node: URL) -> None:
        """`node` does not serve: it is asked last from now on."""
        if node in self._order and self.several:
            self._order.remove(node)
            self._order.append(node)
            self.on_leave(node)

    def learn(self, learnt: Iterable[object]) -> None:
        """Take over what the bus says of its nodes, as far as it may say so; see `merged`."""
        nodes = merged(self.given, learnt)
        self._order = [*(url for url in self._order if url in nodes), *(url for url in nodes if url not in self._order)]
