/**
 * The vectors, as somebody who has nothing but them and docs/protocol.md would try them. Each case of each file is
 * looked at: what holds gives the same bytes, what does not hold is refused under its name.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { unb64u } from "./client/encoding.js";
import { Directory } from "./client/directory.js";
import { openFrame, sealFrame, sessionAnew } from "./client/frames.js";
import { cardOf, fingerprint, identityOf, readCard } from "./client/identity.js";
import { seedKey, seedOf, userKey, userOf } from "./client/nkeys.js";
import { signedHeaders } from "./client/requests.js";
import { Room } from "./client/room.js";
import { commitment, followLink, openSealed, sealedDigest } from "./client/roomkeys.js";
import { verify } from "./client/signing.js";
import { each, hex, load, refuses } from "./cases.js";

each("nkeys", "keys", (one) => {
  if (one.kind !== "U") return refuses("invalid-input", () => userKey(one.public));
  assert.deepEqual([userOf(hex(one.bytes_hex)), seedOf(hex(one.bytes_hex))], [one.public, one.seed]);
  assert.deepEqual([userKey(one.public), seedKey(one.seed)], [hex(one.bytes_hex), hex(one.bytes_hex)]);
});
each("nkeys", "refused", (one) => refuses(one.error, () => userKey(one.public)));
each("nkeys", "signatures", (one) => {
  const holds = () => verify(one.public, Buffer.from(one.text), hex(one.signature_hex));
  if (one.holds) assert.ok(holds());
  else assert.ok(!verify(one.public, Buffer.from(one.text), hex(one.signature_hex)));
});

each("identities", "identities", async (one) => {
  const identity = await identityOf(one.seed);
  const made = [identity.user, hex(one.sealing_hex), await cardOf(identity)];
  assert.deepEqual([made[0], Buffer.from(identity.sealingKey), made[2]], [one.user, made[1], one.card]);
  assert.equal((await readCard(one.card)).user, one.user);
});
each("identities", "refused", (one) => refuses(one.error, () => readCard(one.card)));

each("fingerprints", "fingerprints", async (one) => {
  assert.equal(fingerprint(await identityOf(one.seed)), one.fingerprint);
});

async function directory(file) {
  const { bus, records } = load(file).directory;
  const state = new Directory(bus);
  for (const { record, head } of records) {
    await state.append(record);
    assert.deepEqual(state.head, { seq: head.sequence, hash: head.hash });
  }
  return state;
}

for (const file of ["records", "changes"]) {
  const onDirectory = directory(file);
  each(file, "directory.refused", async (one) => {
    const state = await onDirectory;
    await refuses(one.error, () => state.append(one.record));
  });

  for (const one of load(file).rooms) {
    const made = (async () => {
      const users = await onDirectory;
      const room = new Room(users.bus, one.room);
      for (const { record } of one.records) await room.append(record, users);
      return [room, users];
    })();
    test(`${file} rooms: ${one.room}`, async () => {
      const [room] = await made;
      const heads = one.records.map(({ head }) => head.hash);
      assert.deepEqual(
        [room.history, Object.fromEntries(room.state.roles), room.hashes],
        [one.history, one.roles, heads],
      );
      assert.deepEqual([room.epochs.length, [...room.epochs.at(-1).holders].sort()], [one.epoch, one.holders]);
    });
    for (const { comment, record, error } of one.refused) {
      test(`${file} rooms ${one.room} refused: ${comment}`, async () => {
        const [room, users] = await made;
        await refuses(error, () => room.append(record, users));
      });
    }
  }
}

const epochOf = ({ bus, room, number }) => ({ bus, room, number });
const opened = async (one) =>
  openSealed(await identityOf(one.seed), hex(one.sealed_hex), epochOf(one), hex(one.committed_hex));
const followed = (one) =>
  followLink(hex(one.room_key_hex), epochOf(one), hex(one.linked_hex), hex(one.committed_before_hex));
each("room-keys", "sealed", async (one) => {
  assert.deepEqual(await opened(one), hex(one.room_key_hex));
  assert.deepEqual(commitment(hex(one.room_key_hex), epochOf(one)), hex(one.committed_hex));
});
each("room-keys", "sealed_refused", (one) => refuses(one.error, () => opened(one)));
each("room-keys", "links", async (one) => assert.deepEqual(await followed(one), hex(one.previous_key_hex)));
each("room-keys", "links_refused", (one) => refuses(one.error, () => followed(one)));
each("room-keys", "digests", (one) => {
  const sealed = Object.fromEntries(Object.entries(one.sealed_hex).map(([user, text]) => [user, hex(text)]));
  assert.deepEqual(sealedDigest(sealed), hex(one.digest_hex));
});

each("frames", "frames", async (one) => {
  const headOf = ({ sequence, hash }) => ({ seq: sequence, hash });
  const content = {
    sentAt: one.sent_at_ms,
    roomHead: headOf(one.room_head),
    directoryHead: headOf(one.directory_head),
    messages: one.messages_hex.map(hex),
  };
  const key = hex(one.room_key_hex);
  const numbers = [hex(one.session_hex), one.counter, content, undefined, one.unsettled];
  const frame = sealFrame(await identityOf(one.seed), key, epochOf(one), ...numbers);
  assert.equal(frame.toString("hex"), one.frame_hex);
  assert.deepEqual(openFrame(frame, key, epochOf(one)), content);
});
each("frames", "refused", (one) =>
  refuses(one.error, () => openFrame(hex(one.frame_hex), hex(one.room_key_hex), epochOf(one))),
);
each("frames", "sealed_anew", (one) =>
  assert.equal(sessionAnew(hex(one.session_hex), one.counter).toString("hex"), one.anew_hex),
);

// A client makes requests and judges none, so that here the ones that are refused have nothing to try.
const requests = load("http-signatures");
for (const one of requests.cases.filter(
  ({ expect, name }) => expect === "ok" && name !== "parameters in another order",
)) {
  test(`http-signatures: ${one.name}`, async () => {
    const [, created, nonce, given, user] = /created=(\d+);nonce="([^".]+)\.?([^"]*)".*keyid="([^"]+)"/.exec(
      one.headers["Signature-Input"],
    );
    const signer = Object.values(requests.keys).find((key) => key.user === user);
    const body = one.body === "" ? undefined : Buffer.from(one.body);
    const identity = await identityOf(seedOf(hex(signer.seed)));
    const made = signedHeaders(
      identity,
      requests.bus,
      one.method,
      one.target_uri,
      body,
      Number(created),
      unb64u(nonce),
      given,
    );
    assert.deepEqual(made, one.headers);
  });
}
