/**
 * Identities: 32 secret bytes, from which a signing key and a sealing key follow; and their cards.
 * Nothing here writes a secret anywhere. (docs/protocol.md, "Identities")
 */

import { createHash } from "node:crypto";
import { ed25519 } from "@noble/curves/ed25519.js";
import { XWing } from "@noble/post-quantum/hybrid.js";
import { KEM_MLKEM768_X25519 } from "@panva/hpke-noble";
import { AEAD_AES_256_GCM, CipherSuite, KDF_HKDF_SHA256 } from "hpke";
import { b64u, hkdf, Refused, transcript, unb64u } from "./encoding.js";
import { seedKey, userOf } from "./nkeys.js";
import { any, exactly, object, user } from "./shapes.js";
import { readJws, signingKey, signJws } from "./signing.js";

const SUITE = "MLKEM768-X25519/HKDF-SHA256/AES-256-GCM";
const CARD = "unibus-card+jws";
const FORM = object({ sealing: object({ key: any, suite: exactly(SUITE) }), user, v: exactly(1) });

/** HPKE in the one suite of unibus. Its private keys are X-Wing's: the 32 bytes that SHAKE-256 expands. */
export const hpke = new CipherSuite(KEM_MLKEM768_X25519, KDF_HKDF_SHA256, AEAD_AES_256_GCM);

/** The keys of a seed, SU…: `{user, seed, signing, sealing, sealingKey}`, the last being the public bytes. */
export async function identityOf(seed) {
  const raw = seedKey(seed);
  const sealingSeed = hkdf(raw, "", "unibus sealing key v1");
  return {
    user: userOf(ed25519.getPublicKey(raw)),
    seed,
    signing: signingKey(raw),
    sealing: await hpke.DeserializePrivateKey(sealingSeed),
    sealingKey: XWing.keygen(sealingSeed).publicKey,
  };
}

/** The card of an identity: its two public keys, signed by itself. */
export function cardOf(identity) {
  const sealing = { key: b64u(identity.sealingKey), suite: SUITE };
  return signJws(identity, CARD, { sealing, user: identity.user, v: 1 });
}

/** `{user, sealingKey}` of a card; `invalid-input` if it is none. */
export async function readCard(card) {
  try {
    const { signer, payload } = await readJws(card, CARD);
    if (!FORM(payload)) throw new Error("another form");
    if (payload.user !== signer) throw new Error("signed by somebody else");
    const sealingKey = unb64u(payload.sealing.key, 1216);
    if (!reduced(sealingKey.subarray(0, 1152))) throw new Error("coefficients out of range");
    // Sealing to it refuses an X25519 half of small order, which gives a shared secret of zeros.
    await hpke.Seal(await hpke.DeserializePublicKey(sealingKey), Buffer.alloc(0));
    return { user: signer, sealingKey };
  } catch (error) {
    throw new Refused("invalid-input", `not a card: ${error.message}`);
  }
}

/** What two people compare: twelve numbers of five digits. */
export function fingerprint({ user, sealingKey }) {
  const bytes = createHash("sha512")
    .update(transcript("unibus fingerprint v1", user, SUITE, sealingKey))
    .digest();
  const numbers = Array.from({ length: 12 }, (_, index) => bytes.readUIntBE(5 * index, 5) % 100_000);
  return numbers.map((number) => String(number).padStart(5, "0")).join(" ");
}

// FIPS 203 section 7.2: twelve bits each, and each below q. The stock library says that it checks this, and does not.
function reduced(coefficients) {
  for (let place = 0; place < coefficients.length; place += 3) {
    const pair = coefficients.readUIntLE(place, 3);
    if ((pair & 0xfff) >= 3329 || pair >> 12 >= 3329) return false;
  }
  return true;
}
