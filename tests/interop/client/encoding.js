/**
 * The small encodings that all else is made of: base64url, the transcript, strict JSON, hashes.
 * A reader here never takes a second text for the same value. (docs/protocol.md, "Encodings")
 */

import { createHash, createHmac, hkdfSync } from "node:crypto";

/** What is refused, with the protocol's code of the error. */
export class Refused extends Error {
  constructor(code, why) {
    super(why);
    this.code = code;
  }
}

export const sha256 = (bytes) => createHash("sha256").update(bytes).digest();
export const hmac = (key, bytes) => createHmac("sha256", key).update(bytes).digest();
export const hkdf = (input, salt, info) => Buffer.from(hkdfSync("sha256", input, salt, info, 32));

export const b64u = (bytes) => Buffer.from(bytes).toString("base64url");

/** The bytes of a base64url text; of exactly `size` bytes if given. */
export function unb64u(text, size, code = "invalid-input") {
  const bytes = typeof text === "string" ? Buffer.from(text, "base64url") : Buffer.alloc(0);
  // Buffer reads leniently: only a text that it would write itself is the one text for these bytes.
  if (b64u(bytes) !== text || (size !== undefined && bytes.length !== size)) {
    throw new Refused(code, "not base64url of the right size");
  }
  return bytes;
}

/** T(label, part, …): text, bytes, and numbers as 8 bytes, each preceded by its length. */
export function transcript(...parts) {
  return Buffer.concat(parts.flatMap((part) => [bigEndian(asBytes(part).length, 4), asBytes(part)]));
}

/** A number as `size` bytes. */
export function bigEndian(number, size) {
  return Buffer.from(
    BigInt(number)
      .toString(16)
      .padStart(size * 2, "0"),
    "hex",
  );
}

function asBytes(part) {
  if (typeof part === "number") return bigEndian(part, 8);
  return typeof part === "string" ? Buffer.from(part, "utf-8") : part;
}

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

/**
 * What is signed, read strictly: UTF-8 without a byte order mark, no member twice. Nothing that is signed has
 * fractions, so that a number not written as an integer is refused right here, while its text can still be seen.
 */
export function strictJson(bytes) {
  const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  const value = JSON.parse(text);
  const open = []; // the names seen in each object around this place; null for a list
  const tokens = text.match(TOKEN);
  tokens.forEach((token, place) => {
    if (token === "{") open.push(new Set());
    else if (token === "[") open.push(null);
    else if (token === "}" || token === "]") open.pop();
    else if (tokens[place + 1] === ":") {
      const name = JSON.parse(token);
      if (open.at(-1).has(name)) throw new SyntaxError("a member twice");
      open.at(-1).add(name);
    } else if (/^[-\d]/.test(token) && !/^-?\d+$/.test(token)) throw new SyntaxError("not an integer");
  });
  return value;
}
