/** The vectors of blobs, their manifests, and invites. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { openBlob, purpose, sealBlob } from "./client/blobs.js";
import { b64u, sha256, strictJson } from "./client/encoding.js";
import { MESSAGE, openFrame, readEnvelope } from "./client/frames.js";
import { identityOf } from "./client/identity.js";
import { prove, readToken } from "./client/member.js";
import { seedOf } from "./client/nkeys.js";
import { each, hex, load, refuses } from "./cases.js";

const { key_hex, cut_at_a_chunk: cut, manifest, invite } = load("blobs");
const key = hex(key_hex);
const plain = (size) => Buffer.from(Array.from({ length: size }, (_, index) => index % 251));

each("blobs", "blobs", (one) => {
  const sealed = sealBlob(key, plain(one.size));
  assert.deepEqual([sealed.length, b64u(sha256(sealed))], [one.sealed_size, one.id]);
  assert.ok(sealed.toString("hex").startsWith(one.begins_hex) && sealed.toString("hex").endsWith(one.ends_hex));
  assert.deepEqual(openBlob(key, sealed), plain(one.size));
});
each("blobs", "refused", (one) => refuses(one.error, () => openBlob(key, hex(one.sealed_hex))));

test(`blobs: ${cut.comment}`, async () => {
  const sealed = sealBlob(key, plain(65_537)).subarray(0, 65_552);
  assert.equal(b64u(sha256(sealed)), cut.sealed_sha256);
  await refuses(cut.error, () => openBlob(key, sealed));
});

test(`blobs: ${manifest.comment}`, async () => {
  const frame = hex(manifest.frame_hex);
  const open = (reason) => openFrame(frame, hex(manifest.room_key_hex), manifest, reason);
  const [told, ...more] = open(purpose(manifest.blob)).messages;
  assert.deepEqual([strictJson(told), more, readEnvelope(frame).sender], [manifest.manifest, [], manifest.sender]);
  await refuses(manifest.error, () => open(purpose(manifest.another_blob)));
  await refuses(manifest.error, () => open(MESSAGE));
});

test(`blobs: ${invite.comment}`, async () => {
  const { bus, seed, url } = readToken(invite.token);
  assert.deepEqual([bus, seed, url], [invite.bus, seedOf(hex(invite.seed_hex)), invite.url]);
  const holder = await identityOf(seed);
  assert.deepEqual([holder.user, prove(bus, holder, invite.user)], [invite.invite, invite.proof]);
});
