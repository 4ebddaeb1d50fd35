/**
 * The keys of rooms: what a record commits to, what is sealed to each member, and the link to the key before.
 * An epoch is `{bus, room, number}`. A key that does not fit its commitment is never used. (docs/protocol.md, "Room keys")
 */

import { createCipheriv, createDecipheriv, timingSafeEqual } from "node:crypto";
import { hmac, Refused, sha256, transcript, unb64u } from "./encoding.js";
import { hpke } from "./identity.js";

const SUITE = Buffer.from("01647a00010002", "hex");
const SEALED = 1175;

/** E(label, …): the transcript of what belongs to one epoch. */
export const inEpoch = (label, { bus, room, number }, ...more) => transcript(label, bus, room, number, ...more);

/** What the log says of a key. */
export const commitment = (key, epoch) => hmac(key, inEpoch("unibus epoch commitment v1", epoch));

/** The room key that was sealed to this identity. */
export async function openSealed(identity, sealed, epoch, committed) {
  return fitting(epoch, committed, async () => {
    if (sealed.length !== SEALED || !sealed.subarray(0, 7).equals(SUITE)) throw new Error("another form");
    const info = inEpoch("unibus sealed key v1", epoch, identity.user);
    return hpke.Open(identity.sealing, sealed.subarray(7, 1127), sealed.subarray(1127), { info });
  });
}

/** A room key for one user, whose public sealing key is given. */
export async function sealTo(user, sealingKey, key, epoch) {
  const info = inEpoch("unibus sealed key v1", epoch, user);
  const made = await hpke.Seal(await hpke.DeserializePublicKey(sealingKey), key, { info });
  return Buffer.concat([SUITE, made.encapsulatedSecret, made.ciphertext]);
}

/** The link from the key of `epoch` to the key before it. */
export function linkTo(previous, key, epoch) {
  const cipher = createCipheriv("aes-256-gcm", wrappingKey(key, epoch), Buffer.alloc(12));
  return Buffer.concat([cipher.update(previous), cipher.final(), cipher.getAuthTag()]);
}

/** The key of the epoch before, out of the key of `epoch`; `committed` is what the log says of the one before. */
export async function followLink(key, epoch, link, committed) {
  return fitting({ ...epoch, number: epoch.number - 1 }, committed, () => {
    const cipher = createDecipheriv("aes-256-gcm", wrappingKey(key, epoch), Buffer.alloc(12)).setAuthTag(
      link.subarray(32),
    );
    return Buffer.concat([cipher.update(link.subarray(0, 32)), cipher.final()]);
  });
}

const wrappingKey = (key, epoch) => hmac(key, inEpoch("unibus previous epoch v1", epoch));

/** The digest that a record carries over all sealed keys that come with it: `{user: bytes}`. */
export function sealedDigest(sealed) {
  const parts = Object.keys(sealed)
    .sort()
    .flatMap((user) => [user, sha256(sealed[user])]);
  return sha256(transcript("unibus sealed keys v1", ...parts));
}

async function fitting(epoch, committed, open) {
  try {
    const key = Buffer.from(await open());
    if (!timingSafeEqual(commitment(key, epoch), committed)) throw new Error("another key than the log commits to");
    return key;
  } catch (error) {
    throw new Refused("sealed-key-invalid", `the key of epoch ${epoch.number}: ${error.message}`);
  }
}

/** Every epoch's key that this member can have, by number. What does not open is in `lost`, with its error. */
export async function roomKeys(identity, room, sealed) {
  const keys = new Map();
  const lost = new Map();
  const epochs = room.epochs.toReversed();
  for (const epoch of epochs) {
    const { number } = epoch;
    const ref = { bus: room.bus, room: room.id, number };
    const committed = unb64u(epoch.commitment, 32);
    const next = room.epochs[number];
    const tries = sealed
      .filter((key) => key.epoch === number)
      .map((key) => () => openSealed(identity, key.sealed, ref, committed));
    if (keys.has(number + 1) && next.previous) {
      const link = unb64u(next.previous, 48);
      tries.push(() => followLink(keys.get(number + 1), { ...ref, number: number + 1 }, link, committed));
    }
    for (const open of tries) {
      try {
        if (!keys.has(number)) keys.set(number, await open());
      } catch (error) {
        lost.set(number, error);
      }
    }
    const missing = epoch.holders.has(identity.user) && tries.length === 0;
    if (missing) lost.set(number, new Refused("sealed-key-missing", `the key of epoch ${number} was not handed out`));
  }
  return { keys, lost };
}
