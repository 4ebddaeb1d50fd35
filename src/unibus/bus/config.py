"""nats-server's generated configuration, and the part of it that one of somebody else's needs. Pure: options and public
keys in, text out.

The file is JSON, which nats-server reads as its own format, so that no value can break out of its place. The daemon's
logins must appear as public nkeys only; the one secret in it is what opens a cluster's routes.
"""

import json
from collections.abc import Sequence

from unibus.bus.cluster import door, own_control
from unibus.bus.keys import BusKeys
from unibus.bus.options import BusOptions
from unibus.bus.tls import HANDSHAKE_FIRST
from unibus.model import subjects

MEMBERS = "BUS"
"""The account that members are let into."""
OPERATORS = "OPS"
"""The account of operators, which is there if there are any."""
LOOK = ("$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.STREAM.INFO.*")
CHANGE = ("$JS.API.STREAM.UPDATE.*", "$JS.API.STREAM.LEADER.STEPDOWN.*")
"""What operators may ask of what their tools take for JetStream; it is `bus.door` that hears it."""
LOGIN = "member"
"""What nats-server calls everybody who was let into BUS.

A user of this name stands in the configuration, because a reload disconnects whoever has a name that does not. Its
password is the beginning of a bcrypt hash, which nothing compares equal to: only the callout lets anybody into BUS.
"""
_NO_PASSWORD = "$2a$04$"  # noqa: S105 - it is none
AUTH_TIMEOUT = 2
"""Seconds a client has to be let in. With 3 or more, nats-py takes an unanswered connection for a good one."""
MAX_SUBSCRIPTIONS = 5_000
"""Of one connection, which ends when it wants more: 1,000 deliveries, signals, replies, and air."""
MAX_PENDING = 64 << 20
"""Bytes that wait for one slow reader, above which it is cut off. JetStream's flow control stays at half of this."""
WRITE_DEADLINE = "10s"
"""For one write to somebody who takes nothing; then they are cut off."""
MAX_WAITING, MAX_WAITING_BYTES = 2_000, 64 << 20
"""Messages, and bytes, that wait to be stored, above which more are refused with 429: all others wait behind them."""
MAX_CONTROL_LINE = 65_536
"""Bytes of one protocol line: a connection that names the rooms it opens does so in its CONNECT line."""


SHARED = (
    ("service", subjects.STORED),
    ("service", subjects.control("*", subjects.DELIVER)),
    ("service", subjects.FLOW_CONTROL),
    ("stream", subjects.delivery(">", "")[: -len(".")]),
    ("stream", subjects.events(">")),
)
"""What of CORE the members reach: kinds and subjects of exports, and of the imports that mirror them."""


def access(keys: BusKeys, node: str | None = None, operators: Sequence[str] = ()) -> dict[str, object]:
    """Who may connect, and what is where; on the server called `node` of a cluster, None outside of one.

    Members live in BUS, JetStream in CORE: a reply subject is never checked against permissions, so a member beside
    JetStream could make the server speak for it. BUS reaches only the subjects that CORE exports. `operators` (public
    nkeys) are in OPS for the same reason, and reach the daemon where they mean JetStream.
    """
    inside = {subjects.control("*", subjects.DELIVER): own_control(node)}
    shared = [(kind, subject, inside.get(subject, subject)) for kind, subject in SHARED]
    exports: list[dict[str, object]] = [{kind: exported, "accounts": [MEMBERS]} for kind, _, exported in shared]
    if operators:
        exports.append({"service": door(node), "accounts": [OPERATORS]})
    return {
        "system_account": "SYS",
        "accounts": {
            "SYS": {"users": [{"nkey": keys.system.public}]},
            "AUTH": {"users": [{"nkey": keys.auth.public}]},
            "CORE": {
                "jetstream": "enabled",
                "users": [{"nkey": keys.core.public}],
                "exports": exports,
            },
            MEMBERS: {
                "users": [{"user": LOGIN, "password": _NO_PASSWORD}],
                "imports": [
                    {kind: {"account": "CORE", "subject": exported}, **({} if exported == subject else {"to": subject})}
                    for kind, subject, exported in shared
                ],
            },
            **({OPERATORS: _operators(operators, door(node))} if operators else {}),
        },
        "authorization": {
            "timeout": AUTH_TIMEOUT,
            "auth_callout": {
                "issuer": keys.issuer.public,
                "account": "AUTH",
                "auth_users": [keys.auth.public, keys.core.public, keys.system.public, *operators],
                "xkey": keys.curve_public,
            },
        },
    }


def _operators(users: Sequence[str], subject: str) -> dict[str, object]:
    allowed = {"publish": [*LOOK, *CHANGE], "subscribe": ["_INBOX.>"]}
    return {
        "users": [{"nkey": user, "permissions": allowed} for user in users],
        # Shared, so that the daemon is told who asks.
        "imports": [{"service": {"account": "CORE", "subject": subject}, "to": "$JS.API.>", "share": True}],
    }


def render(options: BusOptions, keys: BusKeys, port: int, ws_port: int, max_store: int) -> str:
    """The configuration for one life of our own server; a port of 0 lets it take a free one.

    `max_store` is how many bytes it stores at most.
    """
    listeners: dict[str, object] = {}
    if options.cluster is not None:
        listeners["cluster"] = options.cluster.settings()
    if options.tls is not None:
        listeners["tls"] = {**options.tls.settings(), "handshake_first": HANDSHAKE_FIRST}
    if options.ws_host is not None:
        guard = {"no_tls": True} if options.tls is None else {"tls": options.tls.settings()}
        listeners["websocket"] = {"host": options.ws_host, "port": ws_port or -1, **guard}
    return json.dumps(
        {
            **listeners,
            "server_name": options.node,
            "host": options.host,
            "port": port or -1,
            "ports_file_dir": str(options.run_dir),
            "logtime": False,
            "max_payload": options.max_payload,
            "max_control_line": MAX_CONTROL_LINE,
            "max_connections": options.connections,
            "max_subscriptions": MAX_SUBSCRIPTIONS,
            "max_pending": MAX_PENDING,
            "write_deadline": WRITE_DEADLINE,
            "jetstream": {
                "store_dir": str(options.store_dir),
                "sync_interval": "always",
                "max_file_store": max_store,
                "max_buffered_msgs": MAX_WAITING,
                "max_buffered_size": MAX_WAITING_BYTES,
            },
            **access(keys, options.node if options.cluster else None, options.operators),
        },
        indent=1,
        ensure_ascii=False,
    )
