/**
 * Which frames of a room a reader believes. One judge serves one reading, and is shown the frames in the order of the
 * bus. A frame is taken or refused as a whole. (docs/protocol.md, "Accepting a frame")
 */

import { Refused } from "./encoding.js";
import { MESSAGE, openFrame, readEnvelope } from "./frames.js";

const WINDOW = 256; // how far below a session's newest counter another may be

export class Judge {
  constructor(logs, identity, room) {
    Object.assign(this, { logs, identity, room, named: { room: 1, directory: 1 }, sessions: new Map(), opened: null });
  }

  /** `{sender, sentAt, messages}` of a frame on a subject, or null if it is from before this reader joined. */
  async accept(frame, subject) {
    const own = `room.${this.room.id}.msg.${readEnvelope(frame).sender}`;
    if (subject !== own) throw new Refused("frame-invalid", "somebody else published it than signed it");
    const content = await this.believe(frame, MESSAGE);
    if (content === null) return null;
    const { session, counter } = readEnvelope(frame);
    this.#mustBeNew(`${content.sender} ${session.toString("hex")}`, counter);
    this.named.room = Math.max(this.named.room, content.roomHead.seq);
    this.named.directory = Math.max(this.named.directory, content.directoryHead.seq);
    return content;
  }

  /** The same of what is sealed in the form of a frame for this purpose, whatever its counter. */
  async believe(frame, purpose) {
    const { number, sender } = readEnvelope(frame);
    const key = await this.#key(number);
    if (key === null) return null;
    const content = openFrame(frame, key, { bus: this.room.bus, room: this.room.id, number }, purpose);
    await this.logs.mustKnow(this.room, content);
    this.#mustBelong(sender, number, content);
    return { sender, ...content };
  }

  async #key(number) {
    if (number > this.room.epochs.length) await this.logs.refreshRoom(this.room.id);
    const epoch = this.room.epochs[number - 1];
    if (!epoch) throw new Refused("frame-invalid", "an epoch that the room does not have");
    if (!this.opened?.keys.has(number)) this.opened = await this.logs.keys(this.identity, this.room);
    if (this.opened.keys.has(number)) return this.opened.keys.get(number);
    if (epoch.holders.has(this.identity.user)) throw this.opened.lost.get(number);
    return null;
  }

  #mustBelong(sender, number, { roomHead, directoryHead }) {
    const { room, logs, named } = this;
    const newest = {
      room: Math.max(roomHead.seq, named.room),
      directory: Math.max(directoryHead.seq, named.directory),
    };
    const wrote = [roomHead.seq, newest.room].every((seq) => room.couldWrite(sender, seq));
    if (!wrote) throw new Refused("frame-invalid", "the sender may not write here");
    const present = [directoryHead.seq, newest.directory].every((seq) => logs.directory.had(sender, seq));
    if (!present) throw new Refused("frame-invalid", "the sender is not on the bus");
    const old =
      room.epochAt(roomHead.seq) !== number || room.hadLostHolder(roomHead.seq, logs.directory, directoryHead.seq);
    if (old) throw new Refused("old-epoch", "the sender went on under an old key");
  }

  #mustBeNew(name, counter) {
    const seen = this.sessions.get(name) ?? [];
    const newest = Math.max(-1, ...seen);
    const replayed = seen.includes(counter) || counter <= newest - WINDOW;
    if (replayed) throw new Refused("frame-replayed", "the frame was there before");
    const floor = Math.max(newest, counter) - WINDOW;
    this.sessions.set(name, [...seen.filter((one) => one > floor), counter]);
  }
}
