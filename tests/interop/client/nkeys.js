/**
 * nkeys, the text form of Ed25519 keys in NATS. The stock library checks less: it takes a text whose last bits are
 * not zero, and cannot write the name of a key that it only has the public bytes of. (docs/protocol.md, "Encodings")
 */

import { Refused } from "./encoding.js";

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const USER = [0xa0];
const SEED = [0x95, 0x00];

/** The public nkey, U…, of 32 bytes. */
export const userOf = (raw) => encode(USER, raw);

/** The seed, SU…, of 32 secret bytes. */
export const seedOf = (raw) => encode(SEED, raw);

/** The 32 bytes of a user's public nkey. */
export const userKey = (text) => decode(text, USER);

/** The 32 secret bytes of a user's seed. */
export const seedKey = (text) => decode(text, SEED);

/** Base32 of RFC 4648 section 6, upper case, no padding. */
export function base32(bytes) {
  const bits = [...bytes].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  return bits.replace(/.{1,5}/g, (five) => ALPHABET[parseInt(five.padEnd(5, "0"), 2)]);
}

function encode(prefix, raw) {
  const data = Buffer.from([...prefix, ...raw]);
  const check = crc16(data);
  return base32([...data, check & 0xff, check >> 8]);
}

function decode(text, prefix) {
  const bits = [...String(text)].map((letter) => ALPHABET.indexOf(letter).toString(2).padStart(5, "0")).join("");
  const raw = Buffer.from((bits.match(/.{8}/g) ?? []).map((byte) => parseInt(byte, 2)));
  const key = raw.subarray(prefix.length, prefix.length + 32);
  if (key.length !== 32 || encode(prefix, key) !== text) throw new Refused("invalid-input", "not an nkey of this kind");
  return key;
}

function crc16(bytes) {
  return bytes.reduce((crc, byte) => {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = ((crc << 1) ^ (crc & 0x8000 ? 0x1021 : 0)) & 0xffff;
    return crc;
  }, 0);
}
