/**
 * Blobs: bytes sealed in chunks and stored under the hash of what is sealed, with a manifest that is sealed like a frame.
 * This client holds a blob in memory; a stranger's name for one is text to compare, and never a path.
 * (docs/protocol-blobs.md)
 */

import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { b64u, bigEndian, Refused, sha256, strictJson, unb64u } from "./encoding.js";
import { Judge } from "./judge.js";
import { bytes, integer, object, optional, text } from "./shapes.js";

const CHUNK = 65_536;
const TAG = 16;
const PART = 8 * 1024 * 1024;
const MANIFEST = object({
  name: text(/^/),
  size: integer(0, 2 ** 53 - 1),
  key: bytes(32),
  media_type: optional(text(/^/)),
});

/** A manifest is a frame of this purpose, about the blob of this id. */
export const purpose = (id) => ({ label: "unibus blob manifest", about: [id] });
const nonce = (number, last) => Buffer.concat([bigEndian(number, 11), Buffer.from([last ? 1 : 0])]);

/** How many chunks a blob of that many bytes has; an empty one has one. */
const chunks = (size) => Math.max(1, Math.ceil(size / CHUNK));

/** The sealed bytes. A key seals one content only. */
export function sealBlob(key, data) {
  const count = chunks(data.length);
  return Buffer.concat(
    Array.from({ length: count }, (_, number) => {
      const cipher = createCipheriv("aes-256-gcm", key, nonce(number, number === count - 1));
      const chunk = data.subarray(number * CHUNK, (number + 1) * CHUNK);
      return Buffer.concat([cipher.update(chunk), cipher.final(), cipher.getAuthTag()]);
    }),
  );
}

/** The bytes that were sealed; `blob-invalid` where any chunk is not in its place, or none is the last. */
export function openBlob(key, sealed) {
  const count = Math.ceil(sealed.length / (CHUNK + TAG));
  try {
    if (count !== chunks(sealed.length - count * TAG)) throw new Error("no blob has this size");
    return Buffer.concat(
      Array.from({ length: count }, (_, number) => {
        const chunk = sealed.subarray(number * (CHUNK + TAG), (number + 1) * (CHUNK + TAG));
        const cipher = createDecipheriv("aes-256-gcm", key, nonce(number, number === count - 1));
        cipher.setAuthTag(chunk.subarray(-TAG));
        return Buffer.concat([cipher.update(chunk.subarray(0, -TAG)), cipher.final()]);
      }),
    );
  } catch (error) {
    throw new Refused("blob-invalid", `what came is not what was stored: ${error.message}`);
  }
}

/** Store bytes in a room under a name; the blob's id. */
export async function putBlob(member, room, name, data) {
  const key = randomBytes(32);
  const sealed = sealBlob(key, data);
  const id = b64u(sha256(sealed));
  const path = `/v1/rooms/${room.id}/blobs/${id}/upload`;
  let { offset, stored } = await member.requests.put(path, { size: sealed.length });
  while (!stored && offset < sealed.length) {
    const part = sealed.subarray(offset, offset + PART);
    ({ offset } = await (await member.requests.send("PATCH", `${path}?offset=${offset}`, part)).json());
  }
  const manifest = Buffer.from(JSON.stringify({ key: b64u(key), name, size: data.length }));
  const seal = await member.sealer(room, purpose(id));
  await member.requests.post(path, { manifest: b64u(seal(manifest)) });
  return id;
}

/** `{handle, data}` of the first blob of that name: who stored it, and the bytes. */
export async function getBlob(member, room, name) {
  for await (const view of member.requests.list(`/v1/rooms/${room.id}/blobs`, "blobs")) {
    const told = await readManifest(member, room, view).catch((error) => {
      if (!(error instanceof Refused)) throw error;
      return null; // one that lies hides no other
    });
    if (told?.name === name) return { handle: told.handle, data: await fetchBlob(member, room, view.id, told.key) };
  }
  throw new Refused("not-found", `there is no blob ${name} here`);
}

/** What the manifest says and who sealed it; null if it is from before this member joined. */
async function readManifest(member, room, { id, size, uploader, manifest }) {
  const believed = await new Judge(member.logs, member.identity, room).believe(unb64u(manifest), purpose(id));
  if (believed === null) return null;
  const { messages, sender } = believed;
  try {
    const told = strictJson(messages[0]);
    const fits = messages.length === 1 && MANIFEST(told) && size === told.size + chunks(told.size) * TAG;
    if (!fits || sender !== uploader) throw new Error("another size, form or uploader");
    return { ...told, handle: member.logs.directory.users.get(sender).handle };
  } catch (error) {
    throw new Refused("blob-invalid", `the manifest is not of this blob: ${error.message}`);
  }
}

async function fetchBlob(member, room, id, key) {
  const answer = await member.requests.send("GET", `/v1/rooms/${room.id}/blobs/${id}`);
  const sealed = Buffer.from(await answer.arrayBuffer());
  if (b64u(sha256(sealed)) !== id) throw new Refused("blob-invalid", "what came has another hash");
  return openBlob(unb64u(key, 32), sealed);
}
