"""One transaction of the SQLite engine: the writes of a batch, in as few statements as there are tables.

Runs in a thread of its own. Each statement gives up the interpreter's lock and has to wait for it afterwards, so a row
each would cost more than writing it. Must never commit a part of the batch.
"""

import sqlite3
from collections.abc import Sequence
from functools import cache
from itertools import chain

from unibus.store.port import PositionTaken
from unibus.store.sqlite_plan import Add, Adds, Answer, Claim, Follow, Forget, Probe, Write, plan, share_out

# More than most writes need: on a full disk a page or two often still finds room where a write before it failed.
PROBE_BYTES = 256 * 1024
_ROWS = (*range(64, 0, -8), *range(7, 0, -1))
"""How many rows one statement inserts: two statements for up to 71, of few enough texts to have them all prepared."""
STATEMENTS = 256
"""How many statements a connection that writes keeps prepared: those for the tables, and for a while of other sizes."""

_LOG = ("INSERT INTO logs (name) VALUES", "(?)", "")
_ENTRY = (
    "INSERT INTO entries (log, position, value) VALUES",
    "((SELECT id FROM logs WHERE name = ?), ?, ?)",
    "",
)
_ATTACHMENT = (
    "INSERT INTO attachments (log, name, position, value) VALUES",
    "((SELECT id FROM logs WHERE name = ?), ?, ?, ?)",
    "",
)
_MARK = (
    "INSERT INTO marks (name, value) VALUES",
    "(?, ?)",
    "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
)
_UNMARK = "DELETE FROM marks WHERE name = ?"
_FORGET = "DELETE FROM claims WHERE expires_at < ? AND name != ?"
_FORGOTTEN = b"\xff"
"""In the place of a claim's name, which is UTF-8 and so never this: up to when claims have been forgotten."""
_FORGOT = """INSERT INTO claims (name, expires_at) VALUES (?, ?)
    ON CONFLICT (name) DO UPDATE SET expires_at = max(expires_at, excluded.expires_at)"""
_FORGOTTEN_UP_TO = "coalesce((SELECT expires_at FROM claims WHERE name = ?), -9223372036854775808)"
_PLACE = "REPLACE INTO following (id, stream, sequence, digest) VALUES (1, ?, ?, ?)"
LENGTHS = "SELECT name, (SELECT max(position) FROM entries WHERE log = logs.id) FROM logs WHERE name IN"
"""How long logs are, by the names that follow."""


def commit(db: sqlite3.Connection, writes: Sequence[Write]) -> list[Answer]:
    """Do all `writes` and commit them; the answer to each. Raises sqlite3.Error, and PositionTaken of a Follow."""
    claims = [write for write in writes if isinstance(write, Claim)]
    if len(claims) == len(writes):
        return _claim(db, claims)  # one statement is a transaction of its own
    db.execute("BEGIN IMMEDIATE")
    try:
        # What expired goes first, so that it may be claimed again at once.
        answers = {
            Forget: iter([_forget(db, write) for write in writes if isinstance(write, Forget)]),
            Claim: iter(_claim(db, claims)),
            Adds: iter(_add(db, [write.adds for write in writes if isinstance(write, Adds)])),
            Follow: iter([_follow(db, write) for write in writes if isinstance(write, Follow)]),
            Probe: iter([_probe(db) for write in writes if isinstance(write, Probe)]),
        }
        db.execute("COMMIT")
    except BaseException:
        db.rollback()
        raise
    return [next(answers[type(write)]) for write in writes]


def _forget(db: sqlite3.Connection, write: Forget) -> Answer:
    dropped = db.execute(_FORGET, (write.now, _FORGOTTEN)).rowcount
    db.execute(_FORGOT, (_FORGOTTEN, write.now - 1))
    return dropped


def _claim(db: sqlite3.Connection, claims: Sequence[Claim]) -> list[Answer]:
    if not claims:
        return []
    rows = ", ".join(["(?, ?)"] * len(claims))
    values = [value for claim in claims for value in (claim.name, claim.expires_at)]
    inserted = db.execute(
        f"INSERT INTO claims (name, expires_at) SELECT * FROM (VALUES {rows}) WHERE column2 > {_FORGOTTEN_UP_TO} "  # noqa: S608 - only question marks are put in
        "ON CONFLICT DO NOTHING RETURNING name",
        [*values, _FORGOTTEN],
    )
    return share_out(claims, [name for (name,) in inserted.fetchall()])


def _add(db: sqlite3.Connection, groups: Sequence[Sequence[Add]]) -> list[Answer]:
    if not groups:
        return []
    names = list({add.log for adds in groups for add in adds})
    names += names[-1:] * (-len(names) % 8)  # which changes nothing: fewer texts to prepare
    lengths = db.execute(f"{LENGTHS} ({', '.join('?' * len(names))})", names).fetchall()
    rows = plan(groups, dict(lengths))
    _insert(db, _LOG, rows.logs)
    _insert(db, _ENTRY, rows.entries)
    _insert(db, _ATTACHMENT, rows.attachments)
    _insert(db, _MARK, [(name, value) for name, value in rows.marks.items() if value is not None])
    db.executemany(_UNMARK, [(name,) for name, value in rows.marks.items() if value is None])
    return rows.answers


def _insert(db: sqlite3.Connection, statement: tuple[str, str, str], rows: Sequence[tuple[object, ...]]) -> None:
    done = 0
    for size in _ROWS:
        while len(rows) - done >= size:
            db.execute(_of(statement, size), list(chain.from_iterable(rows[done : done + size])))
            done += size


@cache
def _of(statement: tuple[str, str, str], rows: int) -> str:
    start, row, end = statement
    return f"{start} {', '.join([row] * rows)} {end}"


def _follow(db: sqlite3.Connection, write: Follow) -> Answer:
    for answer in _add(db, [[add] for add in write.adds]):
        if isinstance(answer, PositionTaken):
            raise answer  # undoes the whole write
    db.execute(_PLACE, write.place)
    return len(write.adds)


def _probe(db: sqlite3.Connection) -> Answer:
    db.execute("REPLACE INTO probe (id, value) VALUES (1, randomblob(?))", (PROBE_BYTES,))
    return 1
