"""Which bus a node serves, by the record that makes it: a name alone could be anybody's. Pure."""

from unibus.client.changes import genesis_bus
from unibus.errors import NotFound, UnibusError, Untrusted
from unibus.model.wire import BusView


def served_bus(view: BusView) -> str:
    """The id of the bus that `view` is of. Raises NotFound before there is one, Untrusted for a record of another."""
    if view.bus is None or view.genesis is None:
        raise NotFound("this bus has no users yet: its operator begins with unibus init")
    try:
        made = genesis_bus(view.genesis.encode("ascii"))
    except UnibusError as error:
        raise Untrusted(f"the server shows a first record that makes no bus: {error}") from error
    if made != view.bus:
        raise Untrusted("the server names a bus that its first record does not make")
    return made
