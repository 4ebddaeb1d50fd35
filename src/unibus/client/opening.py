"""Opening the frames of one room: the epoch's key, signature and decryption, the logs that a frame names, the rules.

The order in which a frame is taken apart, for whoever reads frames: stored messages and signals alike. Each has an
`Opener` of its own, because what was seen of the one says nothing about the other. Never reports: what is wrong is
raised, by `unseal` and `accept` about the frame, by `catch_up` about the server.
"""

from unibus.client.judge import Judge
from unibus.client.keyring import Keyring
from unibus.client.replica import Replica
from unibus.crypto.frames import MESSAGES, Content, Envelope, Purpose, open_frame
from unibus.errors import FrameInvalid, NotFound
from unibus.model.room import Room


class Opener:
    """Opens one room's frames in the order in which the bus shows them."""

    def __init__(self, replica: Replica, keyring: Keyring, room: str, judge: Judge | None = None) -> None:
        self._replica = replica
        self._keyring = keyring
        self._room = room
        self._judge = Judge() if judge is None else judge

    async def unseal(self, frame: bytes, envelope: Envelope, purpose: Purpose = MESSAGES) -> Content | None:
        """What is in the frame; None for one from before this identity joined a room whose history is not shared.

        Raises FrameInvalid, SealedKeyMissing, SealedKeyInvalid; and as `Replica.sync_room`, to look for the epoch.
        """
        room = await self._know_epoch(envelope.epoch)
        try:
            key = await self._keyring.key(room, envelope.epoch)
        except NotFound:
            return None
        return open_frame(frame, envelope, key, room.epoch_ref(envelope.epoch), purpose)

    async def catch_up(self, content: Content) -> None:
        """Fetch what the frame names and is not known yet. Raises as `Replica.sync_room` and `sync_directory`."""
        await self._replica.look_for(self._room, content.room_head.sequence, content.directory_head.sequence)

    def accept(self, envelope: Envelope, content: Content, at: int = 0) -> None:
        """Return if the frame may be believed, which stands at the number `at`. Raises as `Judge.accept`."""
        self._judge.accept(envelope, content, self._replica.rooms[self._room], self._replica.directory, at)

    async def _know_epoch(self, epoch: int) -> Room:
        room = self._replica.rooms.get(self._room)
        if room is None or epoch not in room.epochs:
            room = await self._replica.sync_room(self._room)
        if epoch not in room.epochs:
            raise FrameInvalid(f"a frame of epoch {epoch}, which the room has not begun")
        return room


def check_publisher(subject: str, expected: str) -> None:
    """Return if the frame came on its sender's own subject, for which the bus's permissions vouch. Raises FrameInvalid.

    Else any member could show an old frame of another's to who has not seen it, or begins to read anew.
    """
    if subject != expected:
        raise FrameInvalid("a frame that somebody else published than signed it")
