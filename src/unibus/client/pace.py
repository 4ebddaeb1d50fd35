"""How much one sender has on its way, and how large its frames are: pure, from how long the bus took to acknowledge.

Each frame costs a sync of the disk, so where the bus is fast, large frames carry far more. Where the way to it is slow,
little must be on its way: everything else of the connection, signs of life too, waits behind it, and what is not
acknowledged in time is taken for lost and sent again. So it grows while the bus acknowledges at once, and shrinks to
what the way carries when it does not. Never decides when a frame is lost.
"""

from unibus.client.batching import PIECE

LARGEST = 900 * 1024  # bytes of messages in one frame; whatever is larger is one message
MOST = 4 * 2**20  # bytes on their way at once
BEGIN = 4 * PIECE
FAST = 2 * BEGIN  # so much may only be on its way once that much was acknowledged at once
SHARE = 2  # until then a frame is this part of what may be on its way, so that a slow way shows before it is full
EASY = 0.25  # seconds of waiting behind others, up to which more is put on its way
HARD = 1.0  # … from which it is less


class Pace:
    """`window` is how many bytes may be on their way: while there are fewer, another frame is sent."""

    def __init__(self) -> None:
        self.window = BEGIN
        self._quickest = float("inf")

    @property
    def frame(self) -> int:
        """How many bytes of messages go into one frame, if more than one message does.

        Each frame costs everybody who reads it a signature to verify: where the bus is fast, all that waits is one.
        """
        return max(PIECE, min(LARGEST, self.window if self.window >= FAST else self.window // SHARE))

    def acknowledged(self, size: int, on_way: int, seconds: float) -> None:
        """A frame of `size` bytes took so long; `on_way` is what was on its way with it when it was sent, in bytes."""
        # What one frame needs in any case is the way's length, and no reason to send less.
        self._quickest = min(self._quickest, seconds)
        waited = seconds - self._quickest
        if waited >= HARD:
            self.window = max(PIECE, min(self.window, int(on_way * EASY / waited)))
        elif waited <= EASY and seconds < HARD and on_way * 2 >= self.window:
            self.window = min(MOST, self.window + size)

    def overdue(self) -> None:
        """Something was not acknowledged in time: begin with the least, and over whatever way is taken then."""
        self.window = PIECE
        self._quickest = float("inf")
