"""The body of each record type, and the one table of types. Whether a record may stand is the reducers' matter.

Every model is strict and forbids what it does not know: an unknown type or member is refused, never skipped.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["admin", "member"]
RoomRole = Literal["owner", "member", "reader"]
History = Literal["shared", "since-join"]

UserId = Annotated[str, Field(pattern=r"^U[A-Z2-7]{55}$")]
# The last character of 16 or 32 bytes in base64url carries unused bits. They must be zero: else a record would pass
# here whose bytes cannot be decoded when it is applied.
Digest = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$")]
Salt = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{21}[AQgw]$")]
Handle = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,31}$")]
CardText = Annotated[str, Field(max_length=4096, pattern=r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$")]


class Strict(BaseModel):
    """Base of everything that is read from the wire."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class BusCreate(Strict):
    """The directory's first record. Its signer becomes the first admin; its hash names the bus."""

    handle: Handle
    card: CardText
    salt: Salt


class UserAdmit(Strict):
    """An admin lets the identity behind `card` onto the bus."""

    handle: Handle
    role: Role
    card: CardText


class UserRevoke(Strict):
    """An admin takes a user off the bus, for good: the identity cannot come back, the handle can be given anew."""

    user: UserId


class UserRole(Strict):
    """An admin makes a user an admin or a plain member."""

    user: UserId
    role: Role


class UserRename(Strict):
    """A user, or an admin, changes a user's handle."""

    user: UserId
    handle: Handle


class InviteCreate(Strict):
    """An admin invites whoever holds the secret behind the public key `invite`, once, until `expires` (Unix seconds).

    The log knows the public key only; the secret travels from person to person. A `handle` given here is not for the
    newcomer to choose.
    """

    invite: UserId
    role: Role
    expires: Annotated[int, Field(ge=0, le=2**40)]
    handle: Handle | None = None


class InviteWithdraw(Strict):
    """An admin takes an invite back before it was used."""

    invite: UserId


class UserJoin(Strict):
    """Somebody invited comes onto the bus, and signs for it themselves.

    `proof` is the invite's signature over bus and joining identity (`crypto.invites`): only who was given the secret
    can make it, and it admits no other identity.
    """

    invite: UserId
    handle: Handle
    card: CardText
    proof: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{86}$")]


class Epoch(Strict):
    """A new room key: its number, its commitment, and in rooms with shared history the link to the key before."""

    number: Annotated[int, Field(ge=1, le=2**32 - 1)]
    commitment: Digest
    previous: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{64}$")] | None = None


class RoomCreate(Strict):
    """The room's first record. Its signer becomes the owner. `salt` and signer give the room its id."""

    name: Annotated[str, Field(max_length=64)]
    salt: Salt
    history: History
    epoch: Epoch
    sealed: Digest


class RoomAdd(Strict):
    """An owner adds a user. With `since-join` history this starts an epoch; else the current key is sealed to them."""

    user: UserId
    role: RoomRole
    epoch: Epoch | None = None
    sealed: Digest


class RoomRemove(Strict):
    """An owner removes another member. Always starts an epoch, whose key is sealed to those who stay."""

    user: UserId
    epoch: Epoch
    sealed: Digest


class RoomRotate(Strict):
    """Whoever may write starts an epoch: because somebody was revoked, or because a key has served long enough."""

    epoch: Epoch
    sealed: Digest


class RoomLeave(Strict):
    """A member leaves. The last owner names a `successor` among the members, who becomes owner.

    Who leaves cannot make the next key; whoever writes next does.
    """

    successor: UserId | None = None


class RoomSetRole(Strict):
    """An owner changes a member's role."""

    user: UserId
    role: RoomRole


class RoomRename(Strict):
    """An owner gives the room another name."""

    name: Annotated[str, Field(max_length=64)]


class RoomRetention(Strict):
    """An owner says what the bus keeps: messages of at most `seconds`, at most `bytes` of them; null is no limit."""

    seconds: Annotated[int, Field(ge=60, le=2**32)] | None = None
    bytes: Annotated[int, Field(ge=2**16, le=2**50)] | None = None


class RoomArchive(Strict):
    """An owner closes the room for good: what is in it stays readable for its members, and nothing is added."""


DIRECTORY_TYPES: dict[str, type[Strict]] = {
    "bus.create": BusCreate,
    "user.admit": UserAdmit,
    "user.revoke": UserRevoke,
    "user.role": UserRole,
    "user.rename": UserRename,
    "invite.create": InviteCreate,
    "invite.withdraw": InviteWithdraw,
    "user.join": UserJoin,
}
ROOM_TYPES: dict[str, type[Strict]] = {
    "room.create": RoomCreate,
    "room.add": RoomAdd,
    "room.remove": RoomRemove,
    "room.rotate": RoomRotate,
    "room.leave": RoomLeave,
    "room.role": RoomSetRole,
    "room.rename": RoomRename,
    "room.retention": RoomRetention,
    "room.archive": RoomArchive,
}
