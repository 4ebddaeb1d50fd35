/**
 * Records as they come: compact JWS of one form. Whether one may stand is for directory.js and room.js to say.
 * A record is never serialized again: its text is its identity. (docs/protocol.md, "Records")
 */

import { b64u, Refused, sha256 } from "./encoding.js";
import { any, bytes, card, exactly, handle, head, integer, nullOr, object, oneOf, optional } from "./shapes.js";
import { nameText, user } from "./shapes.js";
import { readJws, signJws } from "./signing.js";

const RECORD = "unibus-record+jws";
const MOST = 65_536;

const role = oneOf("admin", "member");
const roomRole = oneOf("owner", "member", "reader");
const sealed = bytes(32);
const epoch = object({ commitment: bytes(32), number: integer(1, 2 ** 32 - 1), previous: optional(bytes(48)) });

const DIRECTORY = {
  "bus.create": object({ handle, card, salt: bytes(16) }),
  "user.admit": object({ handle, role, card }),
  "user.revoke": object({ user }),
  "user.role": object({ user, role }),
  "user.rename": object({ user, handle }),
  "invite.create": object({ invite: user, role, expires: integer(0, 2 ** 40), handle: optional(handle) }),
  "invite.withdraw": object({ invite: user }),
  "user.join": object({ invite: user, handle, card, proof: bytes(64) }),
};

const ROOM = {
  "room.create": object({ name: nameText, salt: bytes(16), history: oneOf("shared", "since-join"), epoch, sealed }),
  "room.add": object({ user, role: roomRole, epoch: optional(epoch), sealed }),
  "room.remove": object({ user, epoch, sealed }),
  "room.rotate": object({ epoch, sealed }),
  "room.leave": object({ successor: optional(user) }),
  "room.role": object({ user, role: roomRole }),
  "room.rename": object({ name: nameText }),
  "room.retention": object({
    seconds: optional(integer(60, 2 ** 32)),
    bytes: optional(integer(2 ** 16, 2 ** 50)),
  }),
  "room.archive": object({}),
};

const FORM = {
  v: exactly(1),
  bus: nullOr(bytes(32)),
  log: any,
  seq: integer(1, 2 ** 31),
  prev: nullOr(bytes(32)),
  at: integer(0, 2 ** 40),
  dir: any,
  type: any,
  body: any,
};

/** A record of that log, with its `text`, `hash` and `signer`; `malformed-record` if it is none. */
export async function readRecord(text, log) {
  try {
    if (text.length > MOST) throw new Error("too large");
    const { signer, payload } = await readJws(text, RECORD);
    const [dir, bodies] = log === "directory" ? [exactly(null), DIRECTORY] : [head, ROOM];
    const body = Object.hasOwn(bodies, payload.type) ? bodies[payload.type] : () => false;
    if (!object({ ...FORM, log: exactly(log), dir, body })(payload)) throw new Error("another form");
    if ((payload.seq === 1) !== (payload.prev === null)) throw new Error("only the first record has nothing before it");
    return { ...payload, text, hash: b64u(sha256(Buffer.from(text, "utf-8"))), signer };
  } catch (error) {
    throw new Refused("malformed-record", error.message);
  }
}

/** The text of the next record of a log, whose last is `last` (`{seq, hash}`). */
export function writeRecord(identity, { bus, log, last, at, dir, type, body }) {
  const payload = { v: 1, bus, log, seq: last.seq + 1, prev: last.hash, at, dir, type, body };
  return signJws(identity, RECORD, payload);
}

/** Refuse a record that is not the next of its log. `first` is the one type that begins a log. */
export function mustFollow(record, bus, last, first) {
  const founding = record.type === "bus.create";
  if (record.bus !== (founding ? null : bus)) throw new Refused("wrong-bus", "a record of another bus");
  if (record.seq !== last.seq + 1 || record.prev !== last.hash)
    throw new Refused("head-conflict", "not the next record");
  if ((record.seq === 1) !== (record.type === first)) throw new Refused("rule-broken", `a log begins with ${first}`);
}

/** Refuse with the code of a rule unless `holds`. */
export function must(holds, why, code = "rule-broken") {
  if (!holds) throw new Refused(code, why);
}
