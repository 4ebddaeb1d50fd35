/**
 * Beginning an epoch: a new key for a room, sealed to exactly its members on the bus. A change that lost a race is made
 * anew on the new head, with another key. (docs/protocol.md, "Room keys")
 */

import { randomBytes } from "node:crypto";
import { b64u } from "./encoding.js";
import { writeRecord } from "./records.js";
import { commitment, linkTo, sealedDigest, sealTo } from "./roomkeys.js";

const TRIES = 5;

/** Begin the room's next epoch. */
export async function rotate(member, room) {
  for (let tries = 1; ; tries++) {
    const { record, sealed } = await rotation(member, room);
    try {
      await member.requests.post(`/v1/rooms/${room.id}/records`, { record, sealed });
      break;
    } catch (error) {
      if (error.code !== "head-conflict" || tries === TRIES) throw error;
      await member.logs.refreshRoom(room.id);
    }
  }
  await member.logs.refreshRoom(room.id);
}

async function rotation({ identity, logs }, room) {
  const { directory } = logs;
  const number = room.epochs.length + 1;
  const epoch = { bus: room.bus, room: room.id, number };
  const key = randomBytes(32);
  const sealed = {};
  for (const user of room.state.roles.keys()) {
    if (directory.had(user)) sealed[user] = await sealTo(user, directory.users.get(user).sealingKey, key, epoch);
  }
  const begun = { commitment: b64u(commitment(key, epoch)), number };
  if (room.history === "shared") {
    const { keys, lost } = await logs.keys(identity, room);
    if (!keys.has(number - 1)) throw lost.get(number - 1);
    begun.previous = b64u(linkTo(keys.get(number - 1), key, epoch));
  }
  const record = await writeRecord(identity, {
    bus: room.bus,
    log: `room/${room.id}`,
    last: room.head,
    at: Math.floor(Date.now() / 1000),
    dir: directory.head,
    type: "room.rotate",
    body: { epoch: begun, sealed: b64u(sealedDigest(sealed)) },
  });
  return { record, sealed: Object.fromEntries(Object.entries(sealed).map(([user, bytes]) => [user, b64u(bytes)])) };
}
