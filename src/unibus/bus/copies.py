"""On how many nodes of a cluster everything is kept, changed in place; and a node that is gone for good, given up.

Must never keep anything on fewer nodes than now, nor touch any other setting of a stream.
"""

import json

import nats.errors

from unibus.bus.cluster_watch import BLOBS, RECORDS
from unibus.bus.links import SERVER_TIMEOUT, Links
from unibus.crypto.encoding import dump_json
from unibus.errors import BusUnavailable, RuleBroken
from unibus.model.subjects import STREAM

_NO_MEMBER = 10044


async def keep_on(links: Links, replicas: int, nodes: int) -> None:
    """Keep records, messages and blobs on `replicas` of the cluster's `nodes`; what is there is copied meanwhile.

    Raises RuleBroken when there are not so many or it is on more now, BusUnavailable when it is not known whether this
    was done: it may be repeated.
    """
    if replicas > nodes:
        raise RuleBroken(f"the cluster has {nodes} nodes: add some before everything is kept on {replicas}")
    for name in (RECORDS, STREAM, BLOBS):
        info = await links.jetstream(f"STREAM.INFO.{name}")
        if info is None:
            continue
        found = info.get("config")
        if not isinstance(found, dict):
            raise BusUnavailable("nats-server's description of a stream is not understood")
        if found.get("num_replicas", 1) > replicas:
            raise RuleBroken(f"{name} is kept on {found['num_replicas']} nodes now, and is not taken from any")
        if found.get("num_replicas", 1) < replicas:
            await links.jetstream(f"STREAM.UPDATE.{name}", {**found, "num_replicas": replicas})


async def give_up(links: Links, node: str) -> None:
    """Have the cluster decide without the server of `node`, and keep what was on it on another, if there is one.

    Does nothing where it is given up already. Raises BusUnavailable.
    """
    try:
        body = dump_json({"peer": node})
        reply = await links.system.request("$JS.API.SERVER.REMOVE", body, timeout=SERVER_TIMEOUT)
        error = json.loads(reply.data).get("error")
    except (OSError, ValueError, AttributeError, nats.errors.Error) as failure:
        raise BusUnavailable("the cluster did not answer in time: try again") from failure
    if error is not None and error.get("err_code") != _NO_MEMBER:
        raise BusUnavailable(f"the cluster does not give {node} up: {error.get('description', 'no reason given')}")
