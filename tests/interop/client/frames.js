/**
 * Frames: one NATS message, encrypted once and signed once. Pure; the session, the counter and the clock are given.
 * A counter of a session is never used twice: who seals counts. (docs/protocol.md, "Frames")
 */

import { createCipheriv, createDecipheriv } from "node:crypto";
import { b64u, bigEndian, hkdf, Refused, sha256, transcript, unb64u } from "./encoding.js";
import { userKey, userOf } from "./nkeys.js";
import { inEpoch } from "./roomkeys.js";
import { sign, verify } from "./signing.js";

const LEAST = 225;
const MOST = 1_000_000;
const HEADER = 61;
const MOST_UNSETTLED = 255;

/** What a frame is for stands in its labels; `about` is bound to it and not carried. */
export const MESSAGE = { label: "unibus frame", about: [] };

/** The bytes of a frame. `content` is `{sentAt, roomHead, directoryHead, messages}`, heads being `{seq, hash}`. */
export function sealFrame(identity, key, epoch, session, counter, content, purpose = MESSAGE, unsettled = 0) {
  const numbers = [bigEndian(epoch.number, 4), userKey(identity.user), session, bigEndian(unsettled, 4), bigEndian(counter, 4)];
  const header = Buffer.concat([Buffer.from([1]), ...numbers]);
  const bound = binding(purpose, epoch, header);
  const cipher = createCipheriv(
    "aes-256-gcm",
    frameKey(purpose, key, epoch, session, identity.user),
    bigEndian(counter, 12),
  );
  cipher.setAAD(bound);
  const sealed = Buffer.concat([cipher.update(plaintext(content)), cipher.final(), cipher.getAuthTag()]);
  return Buffer.concat([header, sealed, sign(identity.signing, signed(purpose, bound, sealed))]);
}

/** The session of the one frame that the messages of a frame are sealed into anew. */
export const sessionAnew = (session, counter) =>
  sha256(transcript("unibus frame sealed anew v1", session, counter)).subarray(0, 16);

/** What stands on the outside: `{number, sender, session, unsettled, counter}`; believed only once the frame was opened. */
export function readEnvelope(frame) {
  if (frame.length < LEAST || frame.length > MOST || frame[0] !== 1) invalid("no frame of this version");
  return {
    number: frame.readUInt32BE(1),
    sender: userOf(frame.subarray(5, 37)),
    session: frame.subarray(37, 53),
    unsettled: frame.readUInt32BE(53),
    counter: frame.readUInt32BE(57),
  };
}

/** What a frame says, if it was made by its sender for this epoch and under this key. */
export function openFrame(frame, key, epoch, purpose = MESSAGE) {
  const { number, sender, session, unsettled, counter } = readEnvelope(frame);
  if (number !== epoch.number || unsettled > Math.min(counter, MOST_UNSETTLED))
    invalid("another epoch, or more left open than can have been on its way");
  const bound = binding(purpose, epoch, frame.subarray(0, HEADER));
  const sealed = frame.subarray(HEADER, -64);
  try {
    if (!verify(sender, signed(purpose, bound, sealed), frame.subarray(-64))) throw new Error("another signature");
    const cipher = createDecipheriv(
      "aes-256-gcm",
      frameKey(purpose, key, epoch, session, sender),
      bigEndian(counter, 12),
    );
    cipher.setAAD(bound).setAuthTag(sealed.subarray(-16));
    return contentOf(Buffer.concat([cipher.update(sealed.subarray(0, -16)), cipher.final()]));
  } catch (error) {
    return invalid(error.message);
  }
}

const binding = ({ label, about }, { bus, room }, header) => transcript(`${label} v1`, bus, room, header, ...about);
const frameKey = ({ label }, key, epoch, session, sender) =>
  hkdf(key, session, inEpoch(`${label} key v1`, epoch, sender));
const signed = ({ label }, ...parts) => transcript(`${label} signature v1`, sha256(Buffer.concat(parts)));

function plaintext({ sentAt, roomHead, directoryHead, messages }) {
  const heads = [roomHead, directoryHead].flatMap(({ seq, hash }) => [bigEndian(seq, 4), unb64u(hash, 32)]);
  const lengths = messages.map((message) => bigEndian(message.length, 4));
  return Buffer.concat([bigEndian(sentAt, 8), ...heads, bigEndian(messages.length, 4), ...lengths, ...messages]);
}

function contentOf(plain) {
  const headAt = (place) => ({ seq: plain.readUInt32BE(place), hash: b64u(plain.subarray(place + 4, place + 36)) });
  const count = plain.readUInt32BE(80);
  let place = 84 + 4 * count;
  if (count < 1 || place > plain.length) throw new Error("more messages than lengths");
  const messages = [];
  for (let index = 0; index < count; index++) {
    const end = place + plain.readUInt32BE(84 + 4 * index);
    if (end > plain.length) throw new Error("lengths that do not add up");
    messages.push(plain.subarray(place, end));
    place = end;
  }
  if (place !== plain.length) throw new Error("lengths that do not add up");
  return { sentAt: Number(plain.readBigUInt64BE(0)), roomHead: headAt(8), directoryHead: headAt(44), messages };
}

function invalid(why) {
  throw new Refused("frame-invalid", why);
}
