/**
 * Who is in a room, and whose key is current: a room's records, judged against a directory.
 * What stood at an earlier record stays to be asked for, because frames name the head they were sent at.
 * (docs/protocol.md, "Rooms")
 */

import { sha256, transcript } from "./encoding.js";
import { base32 } from "./nkeys.js";
import { must, mustFollow, readRecord } from "./records.js";
import { roomName } from "./shapes.js";

/** The id of the room that this creator makes with this salt. */
export function roomIdOf(bus, creator, salt) {
  return base32(sha256(transcript("unibus room id v1", bus, creator, salt)))
    .toLowerCase()
    .slice(0, 26);
}

export class Room {
  constructor(bus, id) {
    this.bus = bus;
    this.id = id;
    this.hashes = [];
    this.states = []; // after each record: {roles, archived, epoch, holders, dir}; roles: user → role
    this.epochs = []; // {number, commitment, previous, holders}, number 1 first
    this.retentions = []; // all that there ever were: {seconds, bytes}
    this.name = this.history = null;
  }

  get head() {
    return { seq: this.hashes.length, hash: this.hashes.at(-1) ?? null };
  }

  get state() {
    return this.states.at(-1);
  }

  knows({ seq, hash }) {
    return this.hashes[seq - 1] === hash;
  }

  /** The epoch that was current after the record of that number. */
  epochAt(seq) {
    return this.states[seq - 1].epoch;
  }

  /** Whether somebody who has that epoch's key was no member on the bus any more at these two heads. */
  hadLostHolder(seq, directory, directorySeq) {
    const { holders, roles } = this.states[seq - 1];
    return [...holders].some((user) => !roles.has(user) || !directory.had(user, directorySeq));
  }

  /** Whether the user might write after the record of that number. */
  couldWrite(user, seq) {
    const { roles, archived } = this.states[seq - 1];
    return !archived && ["owner", "member"].includes(roles.get(user));
  }

  /** Take the text as the next record; refuse it by name. */
  async append(text, directory) {
    const record = await readRecord(text, `room/${this.id}`);
    const { roles, archived, holders } = this.judged(record, directory);
    this.#take(record, holders);
    const held = new Set(this.epochs.at(-1).holders);
    this.states.push({ roles, archived, epoch: this.epochs.length, holders: held, dir: record.dir.seq });
    this.hashes.push(record.hash);
  }

  /** What stands after the record, once all rules held: `{roles, archived, holders}`. */
  judged(record, directory) {
    mustFollow(record, this.bus, this.head, "room.create");
    must(directory.knows(record.dir), "the record names a directory head that is not there", "log-forked");
    must(record.dir.seq >= (this.state?.dir ?? 0), "the record names an older directory head than the one before");
    const onBus = (user) => directory.had(user, record.dir.seq);
    const { body, signer, type } = record;
    must(onBus(signer), "the signer is not on the bus", "not-a-user");
    if (type === "room.create") {
      must(this.id === roomIdOf(this.bus, signer, body.salt), "the id is not that of this creator and salt");
      must(roomName(body.name), "this cannot be shown as a room's name");
      this.#mustBegin(body.epoch, body.history);
      return { roles: new Map([[signer, "owner"]]), archived: false, holders: [signer] };
    }
    const { archived } = this.state;
    must(!archived, "the room is archived");
    const roles = new Map(this.state.roles);
    const allowed = { "room.rotate": ["owner", "member"], "room.leave": ["owner", "member", "reader"] }[type];
    const otherOwner = (user) => [...roles].some(([one, role]) => one !== user && role === "owner" && onBus(one));
    // Where the bus has lost every owner, a member may become one, and nothing else.
    const orphaned = !otherOwner(null) && roles.get(signer) === "member";
    const stepsIn = orphaned && type === "room.role" && body.user === signer && body.role === "owner";
    must(
      stepsIn || (allowed ?? ["owner"]).includes(roles.get(signer)),
      "the signer's role does not allow this",
      "forbidden",
    );
    const begun = () => {
      this.#mustBegin(body.epoch, this.history);
      return [...roles.keys()].filter(onBus);
    };
    switch (type) {
      case "room.add":
        must(onBus(body.user) && !roles.has(body.user), "the user is not on the bus, or in the room already");
        must(body.epoch != null || this.history === "shared", "an addition must begin an epoch in this room");
        roles.set(body.user, body.role);
        return { roles, archived, holders: body.epoch != null ? begun() : [body.user] };
      case "room.remove":
        must(roles.has(body.user), "the user is not in the room");
        must(body.user !== signer, "who goes leaves, and makes no key");
        roles.delete(body.user);
        return { roles, archived, holders: begun() };
      case "room.rotate":
        return { roles, archived, holders: begun() };
      case "room.leave":
        this.#hand(roles, signer, body.successor ?? null, onBus);
        must(otherOwner(signer), "the last owner stays, or names a successor");
        roles.delete(signer);
        return { roles, archived, holders: [] };
      case "room.role":
        must(roles.has(body.user) && roles.get(body.user) !== body.role, "not in the room, or in that role already");
        must(body.role === "owner" || otherOwner(body.user), "the last owner stays one");
        roles.set(body.user, body.role);
        return { roles, archived, holders: [] };
      case "room.rename":
        must(roomName(body.name), "this cannot be shown as a room's name");
        return { roles, archived, holders: [] };
      default: // room.retention, room.archive
        return { roles, archived: type === "room.archive", holders: [] };
    }
  }

  #hand(roles, signer, successor, onBus) {
    if (successor === null) return;
    must(roles.get(signer) === "owner", "only an owner names a successor");
    must(successor !== signer && roles.has(successor) && onBus(successor), "the successor is not another member");
    roles.set(successor, "owner");
  }

  #mustBegin({ number, previous }, history) {
    must(number === this.epochs.length + 1, "not the number of the next epoch");
    must(
      (previous != null) === (history === "shared" && number > 1),
      "a link to the key before where none belongs, or none",
    );
  }

  #take({ type, body }, holders) {
    if (body.epoch != null) this.epochs.push({ ...body.epoch, holders: new Set() });
    for (const user of holders) this.epochs.at(-1).holders.add(user);
    if (type === "room.create") this.history = body.history;
    if (type === "room.retention") this.retentions.push(body);
    if (body.name !== undefined) this.name = body.name;
  }
}
