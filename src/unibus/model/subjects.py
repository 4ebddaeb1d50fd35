"""The bus's subjects, as both ends write them. Pure text; every part was checked by `model.names` or `crypto.nkeys`.

`<user>` is the identity's public nkey (`U…`), so that the server's own permission check refuses a forged sender:

    room.<room>.msg.<user>       stored frames of a room, published by that user (service import into CORE)
    room.<room>.sig.<user>.<to>  signals of that user, to `all` or to one other user; never stored
    dlv.<user>.<token>           one delivery: frames that the daemon's consumer pushes to one reader
    ctl.<user>.deliver           request to the daemon: open a delivery
    ev.<user>                    announcements to one user: a log has a new head
    _INBOX_<user>.>              that user's replies
    $JS.FC.ROOMS.<c>.<t>         flow control answers of a delivery's reader; both parts are unguessable
"""

STREAM = "ROOMS"
STORED = "room.*.msg.*"
ALL = "all"
"""The addressee of a signal to the whole room: no user is called so, because a user's nkey begins with `U`."""
DELIVER = "deliver"
FLOW_CONTROL = f"$JS.FC.{STREAM}.*.*"


def room_messages(room: str, sender: str = "*") -> str:
    """Where `sender` publishes frames that are kept in `room`; `*` for all senders."""
    return f"room.{room}.msg.{sender}"


def room_signals(room: str, sender: str = "*", to: str = ALL) -> str:
    """Where `sender` publishes what is not kept in `room`, to all or to one user; `*` for all senders or addressees."""
    return f"room.{room}.sig.{sender}.{to}"


def delivery(user: str, token: str) -> str:
    """Where one delivery's frames arrive. The reader must subscribe to exactly this subject, without wildcards."""
    return f"dlv.{user}.{token}"


def control(user: str, verb: str) -> str:
    """Where `user` asks its daemon for something."""
    return f"ctl.{user}.{verb}"


def events(user: str) -> str:
    """Where `user` hears of new heads."""
    return f"ev.{user}"


def inbox_prefix(user: str) -> str:
    """The prefix of all reply subjects of `user`."""
    return f"_INBOX_{user}"
