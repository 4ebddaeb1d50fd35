"""Vectors for records that change what is there: invites and joining, roles, names, leaving, retention, archiving."""

from tests.builders import ANY_DIGEST, AT, Change, RoomStory, Story, identity, user
from tests.vectors.logs import Json, Refusal, bad_cases, good_cases, room_case
from unibus.crypto.encoding import b64u
from unibus.crypto.invites import InviteToken
from unibus.crypto.nkeys import SigningKey
from unibus.errors import (
    Forbidden,
    InviteExpired,
    InviteUnknown,
    InviteUsed,
    InviteWithdrawn,
    MalformedRecord,
    RuleBroken,
    UnibusError,
)
from unibus.model.bodies import (
    InviteCreate,
    InviteWithdraw,
    RoomArchive,
    RoomLeave,
    RoomRename,
    RoomRetention,
    RoomRotate,
    RoomSetRole,
    Strict,
    UserJoin,
    UserRename,
    UserRole,
)
from unibus.model.records import DIRECTORY, room_log, write_record


def change_vectors() -> Json:
    """`changes.json`, of the same form as `records.json`."""
    story = Story()
    story.admit("bob", "cyd")
    for name in ("open", "used", "withdrawn", "named"):
        story.take(story.sign("ada", _invitation(name)))
    short = InviteCreate(invite=_key("short").public, role="member", expires=AT + 60)
    story.take(story.sign("ada", short))
    story.take(_joining(story, "used", "zoe"))
    story.take(story.sign("ada", InviteWithdraw(invite=_key("withdrawn").public)))
    story.take(story.sign("ada", UserRole(user=user("bob"), role="admin")))
    story.take(story.sign("bob", _invitation("lost")))
    story.take(story.sign("ada", UserRole(user=user("bob"), role="member")))
    story.take(story.sign("bob", UserRename(user=user("bob"), handle="robert")))
    live, closed = RoomStory(story), RoomStory(story, name="closed")
    live.add("bob", "cyd", "zoe")
    for body in (
        RoomSetRole(user=user("zoe"), role="reader"),
        RoomRename(name="operations"),
        RoomRetention(seconds=86_400, bytes=2**20),
    ):
        live.take(_plain(live, "ada", body))
    live.take(_plain(live, "cyd", RoomLeave()))
    live.take(_plain(live, "ada", RoomLeave(successor=user("bob"))))
    closed.take(_plain(closed, "ada", RoomArchive()))
    return {
        "comment": "As records.json: whole logs, and records that no client takes as the next one, with the error.",
        "directory": {
            "bus": story.bus,
            "records": good_cases(story.records),
            "refused": bad_cases(_directory_refusals(story)),
        },
        "rooms": [room_case(live, _live_refusals(live)), room_case(closed, _closed_refusals(closed))],
    }


def _key(name: str) -> SigningKey:
    return SigningKey.from_seed(f"invite {name}".encode().ljust(32, b"."))


def _invitation(name: str) -> InviteCreate:
    return InviteCreate(
        invite=_key(name).public, role="member", expires=AT + 3600, handle="yan" if name == "named" else None
    )


def _joining(
    story: Story, invite: str, name: str, *, handle: str | None = None, at: int = AT, proof: str | None = None
) -> bytes:
    made = InviteToken(story.bus, _key(invite), "").prove(user(name))
    body = UserJoin(invite=_key(invite).public, handle=handle or name, card=identity(name).card(), proof=proof or made)
    return write_record(identity(name).signing, story.bus, DIRECTORY, story.directory.head, body, at=at)


def _directory_refusals(story: Story) -> list[Refusal]:
    another = InviteToken(story.bus, _key("open"), "").prove(user("eve"))

    def join(why: str, error: type[UnibusError], invite: str, **how: object) -> Refusal:
        return (why, _joining(story, invite, "yan", **how), error)  # type: ignore[arg-type]  # of _joining's names

    def by(who: str, why: str, body: Strict, error: type[UnibusError]) -> Refusal:
        return (why, story.sign(who, body), error)

    return [
        join("an invite that nobody made", InviteUnknown, "unheard of"),
        join("an invite that was used", InviteUsed, "used"),
        join("an invite that was withdrawn", InviteWithdrawn, "withdrawn"),
        join("an invite of somebody who is no longer an admin", InviteWithdrawn, "lost"),
        join("an invite after its time", InviteExpired, "short", at=AT + 61),
        join("a proof for somebody else", Forbidden, "open", proof=another),
        join("a proof of nothing", Forbidden, "open", proof=b64u(bytes(64))),
        join("another handle than the invite's", RuleBroken, "named", handle="yanna"),
        join("a handle that is taken", RuleBroken, "open", handle="zoe"),
        ("somebody who is on the bus already", _joining(story, "open", "bob", handle="bobby"), RuleBroken),
        by("bob", "a member invites", _invitation("another"), Forbidden),
        by("ada", "an invite with a key that was used before", _invitation("withdrawn"), RuleBroken),
        by("bob", "a member renames somebody else", UserRename(user=user("zoe"), handle="zora"), Forbidden),
        by("bob", "a handle that is taken by another", UserRename(user=user("bob"), handle="ada"), RuleBroken),
        by("bob", "a member makes an admin", UserRole(user=user("bob"), role="admin"), Forbidden),
        by("ada", "the last admin steps down", UserRole(user=user("ada"), role="member"), RuleBroken),
        by("ada", "a role that is held already", UserRole(user=user("bob"), role="member"), RuleBroken),
    ]


def _plain(room: RoomStory, by: str, body: Strict) -> Change:
    story, log = room.story, room_log(room.id)
    return Change(
        write_record(identity(by).signing, story.bus, log, room.state.head, body, at=AT, directory=story.directory.head)
    )


def _live_refusals(room: RoomStory) -> list[Refusal]:
    rows: list[tuple[str, str, Strict, type[UnibusError]]] = [
        ("who has left rotates", "cyd", RoomRotate(epoch=room.epoch(), sealed=ANY_DIGEST), Forbidden),
        ("a reader makes themselves owner", "zoe", RoomSetRole(user=user("zoe"), role="owner"), Forbidden),
        ("the last owner leaves", "bob", RoomLeave(), RuleBroken),
        ("a successor who is not in the room", "bob", RoomLeave(successor=user("cyd")), RuleBroken),
        ("the last owner becomes a member", "bob", RoomSetRole(user=user("bob"), role="member"), RuleBroken),
        ("a reader renames", "zoe", RoomRename(name="mine"), Forbidden),
        ("a name with a line break", "bob", RoomRename(name="a\nb"), RuleBroken),
        ("a reader says what is kept", "zoe", RoomRetention(), Forbidden),
        ("a reader archives", "zoe", RoomArchive(), Forbidden),
    ]
    return [(why, _plain(room, by, body).raw, error) for why, by, body, error in rows]


def _closed_refusals(room: RoomStory) -> list[Refusal]:
    return [
        ("a rotation in an archived room", room.rotation().raw, RuleBroken),
        ("an addition to an archived room", room.addition("bob").raw, RuleBroken),
        ("a directory's record", room.story.revocation("bob"), MalformedRecord),
    ]
