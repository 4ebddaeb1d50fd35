/**
 * Identities: 32 secret bytes, from which a signing key and a sealing key follow; and their cards.
 * Nothing here writes a secret anywhere. (docs/protocol.md, "Identities")
 */

import { ed25519 } from "@noble/curves/ed25519.js";
import { XWing } from "@noble/post-quantum/hybrid.js";
import { KEM_MLKEM768_X25519 } from "@panva/hpke-noble";
import { AEAD_AES_256_GCM, CipherSuite, KDF_HKDF_SHA256 } from "hpke";
import { b64u, hkdf, Refused, unb64u } from "./encoding.js";
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
    // Sealing to it shows that its halves can be sealed to: FIPS 203's check of the one, no zero secret of the other.
    await hpke.Seal(await hpke.DeserializePublicKey(sealingKey), Buffer.from("anything"));
    return { user: signer, sealingKey };
  } catch (error) {
    throw new Refused("invalid-input", `not a card: ${error.message}`);
  }
}
