/**
 * One reader's frames of one room, in order and without gaps, from any number on.
 * Who else may write to the subject is nobody's promise: only what has the form of a frame is handed on, and nothing
 * is ever published to a frame's reply. (docs/protocol.md, "Deliveries")
 */

import { randomBytes } from "node:crypto";
import { Refused } from "./encoding.js";

const SILENCE = 5_000; // milliseconds
const FRAME = /^\$JS\.ACK\.[^.]+\.[^.]+\.\d+\.(\d+)\.(\d+)\.\d+\.\d+$/;

/** `{seq, subject, data}` of each frame after number `after`, for as long as the caller wants more. */
export async function* deliver(connection, identity, room, after) {
  for (;;) {
    const token = randomBytes(18).toString("base64url");
    const subscription = connection.subscribe(`dlv.${identity.user}.${token}`);
    try {
      after = await open(connection, identity, { after, room, token });
      for await (const frame of oneDelivery(connection, subscription)) {
        if (frame.seq <= after) continue;
        yield frame;
        after = frame.seq; // handled: whoever asked for the next has done with this one
      }
    } finally {
      subscription.unsubscribe();
    }
  }
}

async function open(connection, identity, request) {
  const answer = await connection.request(`ctl.${identity.user}.deliver`, JSON.stringify(request), { timeout: 10_000 });
  const { after, error } = answer.json();
  if (error) throw new Refused(error.code, error.message);
  return after;
}

/** The frames of one delivery, until it has to be opened again. */
async function* oneDelivery(connection, subscription) {
  const waiting = subscription[Symbol.asyncIterator]();
  for (let last = 0; ;) {
    const message = await within(SILENCE, waiting.next());
    if (message === null) return;
    const frame = FRAME.exec(message.reply ?? "");
    const status = message.headers?.code || Number(message.headers?.get("Status")) || 0;
    if (frame && !status) {
      if (Number(frame[2]) !== last + 1) return;
      last += 1;
      yield { seq: Number(frame[1]), subject: message.subject, data: Buffer.from(message.data) };
    } else if (status === 100) {
      if (message.reply?.startsWith("$JS.FC.")) connection.publish(message.reply);
      if (Number(message.headers.get("Nats-Last-Consumer") || 0) > last) return;
      const stalled = message.headers.get("Nats-Consumer-Stalled");
      if (stalled.startsWith("$JS.FC.")) connection.publish(stalled);
    } else if (status) return;
  }
}

/** The next message; null after that many milliseconds, or when there is none any more. */
async function within(milliseconds, next) {
  let timer;
  const silence = new Promise((resolve) => (timer = setTimeout(resolve, milliseconds, { done: true })));
  const { done, value } = await Promise.race([next, silence]);
  clearTimeout(timer);
  return done ? null : value;
}
