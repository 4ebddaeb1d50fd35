/**
 * A user of a bus: joining by an invite, reading rooms, sending into them. Everything shown was verified.
 * The identity, the bus's id and the newest heads are kept in one file that only its owner can read.
 */

import { randomBytes } from "node:crypto";
import { readFile, rename, writeFile } from "node:fs/promises";
import { connectTo, publish } from "./connection.js";
import { deliver } from "./delivery.js";
import { b64u, Refused, transcript, unb64u } from "./encoding.js";
import { sealFrame } from "./frames.js";
import { cardOf, identityOf } from "./identity.js";
import { Judge } from "./judge.js";
import { Logs } from "./logs.js";
import { seedOf } from "./nkeys.js";
import { writeRecord } from "./records.js";
import { Requests } from "./requests.js";
import { rotate } from "./rotating.js";
import { sign } from "./signing.js";

/** What an invite's token says: `{bus, seed, url}`. */
export function readToken(token) {
  const [version, keys, url, ...more] = token.split(".");
  if (version !== "unibus1" || more.length) throw new Refused("invalid-input", "this is no invite");
  const both = unb64u(keys, 64);
  const address = unb64u(url).toString("utf-8").replace(/\/$/, "");
  return { bus: b64u(both.subarray(0, 32)), seed: seedOf(both.subarray(32)), url: address };
}

/** What shows that the invite's holder lets this user join. */
export function prove(bus, invite, user) {
  return b64u(sign(invite.signing, transcript("unibus invite proof v1", bus, invite.user, user)));
}

/** Become a user with a new identity, kept in `file`; the member. The bus is the one that the token names. */
export async function join(file, token, handle) {
  const { bus, seed, url } = readToken(token);
  const invite = await identityOf(seed);
  const identity = await identityOf(seedOf(randomBytes(32)));
  const memory = new Memory(file, { bus, url, seed: identity.seed, heads: {} });
  await memory.save(); // before anybody knows of the identity, so that it cannot be lost once it is on the bus
  const requests = new Requests(url, invite, bus);
  const { head, handle: fixed } = await requests.get("/v1/join");
  const proof = prove(bus, invite, identity.user);
  const body = { invite: invite.user, handle: fixed ?? handle, card: await cardOf(identity), proof };
  const last = { seq: head.sequence, hash: head.hash };
  const at = Math.floor(Date.now() / 1000);
  const record = { bus, log: "directory", last, at, dir: null, type: "user.join", body };
  await requests.post("/v1/join", { record: await writeRecord(identity, record) });
  const member = new Member(identity, memory);
  await member.logs.refreshDirectory();
  if (!member.logs.directory.had(identity.user)) throw new Refused("untrusted", "the directory does not say so");
  return member;
}

/** The member whose file this is. */
export async function enter(file) {
  const kept = JSON.parse(await readFile(file, "utf-8"));
  return new Member(await identityOf(kept.seed), new Memory(file, kept));
}

class Memory {
  constructor(file, kept) {
    Object.assign(this, { file, ...kept });
  }

  async save() {
    const { bus, url, seed, heads } = this;
    await writeFile(`${this.file}.new`, JSON.stringify({ bus, url, seed, heads }), { mode: 0o600, flush: true });
    await rename(`${this.file}.new`, this.file);
  }
}

class Member {
  constructor(identity, memory) {
    this.identity = identity;
    this.requests = new Requests(memory.url, identity, memory.bus);
    this.logs = new Logs(this.requests, memory);
  }

  /** The verified room of that name. */
  async room(name) {
    for await (const id of this.requests.list("/v1/rooms", "rooms")) {
      const room = await this.logs.refreshRoom(id);
      if (room.name === name) return room;
    }
    throw new Refused("not-found", `there is no room ${name} for you`);
  }

  /** Run `use` with a connection to the bus that may write into these rooms. */
  async connected(rooms, use) {
    const { nats_host, nats_port } = await (await fetch(`${this.requests.base}/v1/bus`)).json();
    const host = nats_host ?? new URL(this.requests.base).hostname;
    const connection = await connectTo(`${host}:${nats_port}`, this.identity, rooms);
    try {
      return await use(connection);
    } finally {
      await connection.close();
    }
  }

  /** The first `count` messages and refused frames of a room's history: `{messages: [{handle, text, seq}], refused}`. */
  async read(room, count) {
    const judge = new Judge(this.logs, this.identity, room);
    const read = { messages: [], refused: [] };
    await this.connected([], async (connection) => {
      for await (const { seq, subject, data } of deliver(connection, this.identity, room.id, 0)) {
        const frame = await judge.accept(data, subject).catch((error) => {
          if (!(error instanceof Refused)) throw error;
          read.refused.push(error.code);
          return null;
        });
        read.refused.push(...judge.missing.map(() => "frame-missing"));
        for (const message of frame?.messages ?? []) {
          const { handle } = this.logs.directory.users.get(frame.sender);
          read.messages.push({ handle, text: message.toString("utf-8"), seq });
        }
        if (read.messages.length + read.refused.length >= count) return;
      }
    });
    return read;
  }

  /** Send each text as a frame of a new session; the numbers in the stream. A key that is due is changed first. */
  async send(room, texts) {
    const seal = await this.sealer(room);
    return this.connected([room.id], async (connection) => {
      const numbers = [];
      for (const text of texts) {
        numbers.push(await publish(connection, this.identity, room.id, seal(Buffer.from(text, "utf-8"))));
      }
      return numbers;
    });
  }

  /** What seals one message after another as the frames of a new session, under a key that is good for it. */
  async sealer(room, purpose) {
    const key = await this.#writingKey(room);
    const session = randomBytes(16);
    const epoch = { bus: room.bus, room: room.id, number: room.epochs.length };
    const heads = { roomHead: room.head, directoryHead: this.logs.directory.head };
    let counter = 0;
    return (message) => {
      const content = { sentAt: Date.now(), ...heads, messages: [message] };
      return sealFrame(this.identity, key, epoch, session, counter++, content, purpose);
    };
  }

  // The key of the current epoch, which is begun anew if one of its holders has gone.
  async #writingKey(room) {
    const { directory } = this.logs;
    if (room.hadLostHolder(room.head.seq, directory, directory.head.seq)) await rotate(this, room);
    const { keys, lost } = await this.logs.keys(this.identity, room);
    const number = room.epochs.length;
    if (!keys.has(number)) throw lost.get(number) ?? new Refused("sealed-key-missing", "no key to write with");
    return keys.get(number);
  }

  /** All that this member verified: `{users, rooms}` by handle and by name. */
  async show() {
    await this.logs.refreshDirectory();
    for await (const id of this.requests.list("/v1/rooms", "rooms")) await this.logs.refreshRoom(id);
    const users = [...this.logs.directory.users.values()].map(({ user, handle, role, until }) => [
      user,
      { handle, role, active: until === null },
    ]);
    const shown = [...this.logs.rooms.values()].map((room) => {
      const { roles, archived, holders } = room.state;
      const { history, epochs } = room;
      const told = { history, archived, roles: Object.fromEntries(roles), epoch: epochs.length };
      return [room.name, { ...told, holders: [...holders].sort() }];
    });
    return { users: Object.fromEntries(users), rooms: Object.fromEntries(shown) };
  }
}
