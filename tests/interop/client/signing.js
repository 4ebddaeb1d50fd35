/**
 * Ed25519 as libsodium takes it, and JWS in compact serialization over it.
 * OpenSSL's verifier is as strict as libsodium's about S, and lenient about points of small order: those are refused
 * here. A signature is never checked over anything but the bytes that came. (docs/protocol.md, "Records")
 */

import { createPrivateKey, createPublicKey, sign as edSign, verify as edVerify } from "node:crypto";
import { ed25519 } from "@noble/curves/ed25519.js";
import { CompactSign, compactVerify } from "jose";
import { b64u, strictJson, unb64u } from "./encoding.js";
import { userKey } from "./nkeys.js";
import { exactly, object, user } from "./shapes.js";

/** The private key of 32 secret bytes. */
export function signingKey(seed) {
  const x = b64u(ed25519.getPublicKey(seed));
  return createPrivateKey({ key: { kty: "OKP", crv: "Ed25519", d: b64u(seed), x }, format: "jwk" });
}

export const sign = (key, data) => edSign(null, data, key);

/** Whether this is the user's signature over `data`. */
export function verify(user, data, signature) {
  return (
    signature.length === 64 &&
    !smallOrder(signature.subarray(0, 32)) &&
    edVerify(null, data, publicKey(user), signature)
  );
}

function publicKey(user) {
  const raw = userKey(user);
  if (smallOrder(raw)) throw new Error("a public key of small order");
  return createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: b64u(raw) }, format: "jwk" });
}

function smallOrder(point) {
  return ed25519.Point.fromBytes(point, false).isSmallOrder(); // throws where the bytes are no point in its one form
}

/** Members sorted, no blanks: how a writer of unibus writes what it signs. */
export function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((name) => [name, sorted(value[name])]),
  );
}

/** A compact JWS of the payload by an identity. */
export function signJws(identity, typ, payload) {
  return new CompactSign(Buffer.from(JSON.stringify(sorted(payload))))
    .setProtectedHeader({ alg: "EdDSA", kid: identity.user, typ })
    .sign(identity.signing);
}

/** The signer and the payload of a compact JWS of that `typ`; throws whatever is wrong with it. */
export async function readJws(jws, typ) {
  const parts = jws.split(".").map((part) => unb64u(part));
  const header = strictJson(parts[0]);
  if (!object({ alg: exactly("EdDSA"), kid: user, typ: exactly(typ) })(header)) throw new Error("another header");
  if (parts.length !== 3 || smallOrder(parts[2].subarray(0, 32))) throw new Error("not a signature");
  await compactVerify(jws, publicKey(header.kid), { algorithms: ["EdDSA"] });
  return { signer: header.kid, payload: strictJson(parts[1]) };
}
