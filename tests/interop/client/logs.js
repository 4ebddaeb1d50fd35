/**
 * The directory and rooms as this client verified them. What the server shows is fetched, never believed: each record
 * is judged by the rules, and the newest heads are remembered on disk before anything follows from them.
 * (docs/protocol.md, "Trust rules of a client")
 */

import { Refused, unb64u } from "./encoding.js";
import { Directory } from "./directory.js";
import { Room } from "./room.js";
import { roomKeys } from "./roomkeys.js";

const FORKED = ["head-conflict", "log-forked"]; // of a record: it is not the one that follows

export class Logs {
  /** `memory` keeps `heads`, log → `{seq, hash}`, and has `save`. */
  constructor(requests, memory) {
    Object.assign(this, { requests, memory, directory: new Directory(requests.bus), rooms: new Map() });
  }

  /** Fetch and verify what is new in the directory. */
  async refreshDirectory() {
    await this.#refresh("directory", "/v1/directory", this.directory, (text) => this.directory.append(text));
    return this.directory;
  }

  /** Fetch and verify a room, and the directory first, whose heads the room's records name. */
  async refreshRoom(id) {
    await this.refreshDirectory();
    if (!this.rooms.has(id)) this.rooms.set(id, new Room(this.requests.bus, id));
    const room = this.rooms.get(id);
    await this.#refresh(`room/${id}`, `/v1/rooms/${id}`, room, async (text) => {
      await room.append(text, this.directory).catch(async (error) => {
        if (error.code !== "log-forked") throw error;
        await this.refreshDirectory(); // the record may be newer than what was fetched of the directory
        await room.append(text, this.directory);
      });
    });
    return room;
  }

  /** The keys of a room's epochs that this client can have: see `roomKeys`. */
  async keys(identity, room) {
    const sealed = [];
    for (let after = 0; ; after = sealed.at(-1).sequence) {
      const { keys } = await this.#page(`/v1/rooms/${room.id}/keys`, after);
      if (keys.length === 0) break;
      if (keys[0].sequence <= after) throw new Refused("untrusted", "the list of keys goes round");
      sealed.push(...keys);
    }
    const opened = sealed.map(({ sequence, sealed }) => ({
      epoch: room.states[sequence - 1]?.epoch,
      sealed: unb64u(sealed, undefined, "untrusted"),
    }));
    return roomKeys(identity, room, opened);
  }

  /** A frame's heads must be in the logs, fetched anew if they are newer. */
  async mustKnow(room, { roomHead, directoryHead }) {
    if (roomHead.seq > room.head.seq) await this.refreshRoom(room.id);
    else if (directoryHead.seq > this.directory.head.seq) await this.refreshDirectory();
    for (const [log, head] of [
      [room, roomHead],
      [this.directory, directoryHead],
    ]) {
      if (head.seq > log.head.seq) throw new Refused("log-rolled-back", "a member knows of records that are not shown");
      if (!log.knows(head)) throw new Refused("log-forked", "a member was shown another log");
    }
  }

  async #refresh(name, path, log, append) {
    for (;;) {
      const { records, head } = await this.#page(`${path}/records`, log.head.seq);
      if (head.sequence < log.head.seq) throw new Refused("log-rolled-back", `${name} is shorter than it was`);
      for (const text of records) await append(text).catch((error) => blame(name, error));
      if (head.sequence <= log.head.seq && log.knows({ seq: head.sequence, hash: head.hash })) break;
      if (head.sequence <= log.head.seq) throw new Refused("log-forked", `${name} has another head than its records`);
      if (records.length === 0) throw new Refused("log-invalid", `${name} has fewer records than its head says`);
    }
    const known = this.memory.heads[name];
    if (known && known.seq > log.head.seq) throw new Refused("log-rolled-back", `${name} is shorter than it was`);
    if (known && !log.knows(known)) throw new Refused("log-forked", `${name} is not the log of the last time`);
    this.memory.heads[name] = log.head;
    await this.memory.save();
  }

  #page(path, after) {
    return this.requests.get(`${path}?after=${after}`);
  }
}

function blame(log, error) {
  if (error.problem) throw error; // the server's refusal, not a record of it
  throw new Refused(FORKED.includes(error.code) ? "log-forked" : "log-invalid", `${log}: ${error.message}`);
}
