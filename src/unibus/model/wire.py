"""The JSON bodies of the control plane's HTTP API, one model each, used by both ends. Forms only.

Records travel as their compact JWS text, sealed keys as base64url. What a server sends is never trusted for being of
this form: the client verifies what is inside.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from unibus.crypto.jws import MAX_BYTES
from unibus.model.blobs import MAX_MANIFEST, MAX_SIZE
from unibus.model.bodies import Digest, Strict, UserId

PAGE = 500  # the most records or ids in one answer
_JWS = r"^[A-Za-z0-9_.-]+$"
JwsText = Annotated[str, Field(max_length=MAX_BYTES, pattern=_JWS)]
# Shown, and not checked here: of records there are megabytes, and whoever reads one checks every character.
_ManyJwsText = Annotated[str, Field(max_length=MAX_BYTES, json_schema_extra={"pattern": _JWS})]


class HeadView(Strict):
    """A log's head: the number of its last record (0 for none) and that record's hash."""

    sequence: Annotated[int, Field(ge=0)]
    hash: Digest


class BusView(Strict):
    """What anybody may know of a bus: its id and first record (null before there is one), and where its NATS plane is.

    `nats_port` is on the same host as the control plane unless `nats_host` says otherwise; `nats_tls` says whether
    it, and the WebSocket listener on `nats_ws_port` if there is one, speak TLS. `nodes` are URLs of the nodes that
    serve this bus, as far as they are told where clients reach them; none on a node that is alone.
    """

    bus: Digest | None
    genesis: JwsText | None
    nats_host: str | None
    nats_port: Annotated[int, Field(ge=1, le=65535)]
    nats_tls: bool
    nats_ws_port: Annotated[int, Field(ge=1, le=65535)] | None
    nodes: list[Annotated[str, Field(max_length=256)]] = Field(default_factory=list, max_length=16)


class FoundRequest(Strict):
    """The record that makes the bus. Goes with the bootstrap token as a bearer token (RFC 6750)."""

    record: JwsText


class AppendRequest(Strict):
    """A record that extends a log, and the sealed keys that it commits to, by recipient."""

    record: JwsText
    sealed: dict[UserId, Annotated[str, Field(max_length=2048)]] = Field(default_factory=dict, max_length=10_000)


class JoinView(Strict):
    """What an invite is for, for who holds it: the directory's head to extend, and the handle if it is not free."""

    head: HeadView
    handle: str | None


class JoinRequest(Strict):
    """The record by which somebody joins."""

    record: JwsText


class RecordsPage(Strict):
    """Records of a log in order, and the head that the log had. More follow while the last one is not the head."""

    records: list[_ManyJwsText]
    head: HeadView


class RoomsPage(Strict):
    """Ids of the asker's rooms, sorted; `next` is where the next page begins, null on the last."""

    rooms: list[str]
    next: str | None


class AuditEntry(Strict):
    """One entry of a node's audit trail.

    `at` is in Unix seconds; `actor` a public nkey or `-`; `origin` the address it came from; `facts` what else is
    known, for refusals `code` and `reason`; `left_out` how many refusals of the same actor before it were not noted.
    """

    number: Annotated[int, Field(ge=1)]
    at: float
    actor: str
    action: str
    target: str | None
    origin: str
    outcome: Literal["ok", "refused"]
    facts: dict[str, str | int]
    left_out: int = 0


class AuditPage(Strict):
    """Entries of a node's audit trail in order; ask on with `after` the last one's number."""

    node: str
    entries: list[AuditEntry]


class Replicas(Strict):
    """On how many nodes of a cluster everything is kept."""

    replicas: Literal[1, 3, 5]


class NodeName(Strict):
    """A node of a cluster."""

    node: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]


class SealedKey(Strict):
    """A room key sealed to the asker: it came with the room's record `sequence`."""

    sequence: Annotated[int, Field(ge=1)]
    sealed: Annotated[str, Field(max_length=2048)]


class KeysPage(Strict):
    """Keys sealed to the asker in one room, in order."""

    keys: list[SealedKey]


class BlobBegin(Strict):
    """Begins an upload: how many bytes the blob has, sealed."""

    size: Annotated[int, Field(ge=16, le=MAX_SIZE)]


class BlobComplete(Strict):
    """Ends an upload: the sealed manifest, in base64url, and the blob's id where the upload goes by another name."""

    manifest: Annotated[str, Field(max_length=MAX_MANIFEST * 4 // 3 + 1)]
    id: Digest | None = None


class UploadView(Strict):
    """The asker's upload: the next part begins at `offset`. `stored`: the blob is there, nothing is to be sent."""

    offset: Annotated[int, Field(ge=0)]
    size: Annotated[int, Field(ge=0)]
    stored: bool


class BlobView(Strict):
    """What the server knows of a blob: id, sealed size, who stored it when (Unix seconds), and the sealed manifest."""

    id: Digest
    size: Annotated[int, Field(ge=16)]
    uploader: UserId
    stored_at: Annotated[int, Field(ge=0)]
    manifest: Annotated[str, Field(max_length=MAX_MANIFEST * 4 // 3 + 1)]


class BlobsPage(Strict):
    """Blobs of a room by id; `next` is where the next page begins, null on the last."""

    blobs: list[BlobView]
    next: str | None


class HealthView(Strict):
    """A node's health and posture. `uptime` is in seconds; `store` and `bus` are what those say of themselves.

    `bus_auth` is read back from nats-server, and `unknown` when that runs with another configuration than this node's.
    `cluster` is what the node sees of the others, null on a node that is alone.
    """

    status: Literal["ok", "degraded"]
    reasons: list[str]
    node: str
    version: str
    uptime: float
    founded: bool
    bus_auth: Literal["off", "warn", "enforce", "unknown"]
    acl: bool
    tls: bool
    tls_expires: str | None
    route_tls: bool | None
    route_tls_expires: str | None
    store: dict[str, Any]
    bus: dict[str, Any]
    cluster: dict[str, Any] | None
