"""Becomes nats-server, after making sure that it will not outlive the daemon that wanted it.

Run as `python -I -S launch.py PARENT PROGRAM ARGUMENT...`, with nothing but the standard library. It must never take a
secret: its arguments are for all on the machine to see.
"""

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main(arguments: list[str]) -> None:
    """Replace this process by the program in `arguments[1:]`; exit if `arguments[0]` is no longer the parent."""
    import ctypes  # here: the daemon, which only wants to know where this file is, is smaller without

    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        sys.exit(f"cannot tie nats-server to its daemon: {os.strerror(ctypes.get_errno())}")
    # A parent that died before prctl took effect sends no signal: this process was then given another parent.
    if os.getppid() != int(arguments[0]):
        sys.exit("the daemon that wanted nats-server is gone")
    os.umask(0o077)  # all that the server writes is for this user alone
    os.execv(arguments[1], arguments[1:])  # noqa: S606 - becoming that program is what this is for


if __name__ == "__main__":
    main(sys.argv[1:])
