/**
 * Which frames of a room a reader believes. One judge serves one reading, and is shown the frames in the order of the
 * bus, from the first that is kept. A frame is taken or refused as a whole; `missing` holds the senders of those that
 * were left out before the frame that was shown last. (docs/protocol.md, "Accepting a frame")
 */

import { Refused } from "./encoding.js";
import { MESSAGE, openFrame, readEnvelope, sessionAnew } from "./frames.js";

const WINDOW = 256; // how far below a session's newest counter another may be
const CLOCKS = 300; // seconds by which a sender's clock and the bus's may differ

export class Judge {
  constructor(logs, identity, room) {
    Object.assign(this, { logs, identity, room, named: { room: 1, directory: 1 }, sessions: new Map(), opened: null });
    this.believed = new Set(); // of each frame its session
    this.replaced = new Set(); // of each frame the session that it may be sealed into anew
    this.missing = [];
  }

  /** `{sender, sentAt, messages}` of a frame on a subject, or null if it is from before this reader joined. */
  async accept(frame, subject) {
    const own = `room.${this.room.id}.msg.${readEnvelope(frame).sender}`;
    if (subject !== own) throw new Refused("frame-invalid", "somebody else published it than signed it");
    this.missing = [];
    const content = await this.believe(frame, MESSAGE, (made) => this.#meet(frame, made));
    if (content === null) return null;
    this.#mustBeNew(frame);
    this.named.room = Math.max(this.named.room, content.roomHead.seq);
    this.named.directory = Math.max(this.named.directory, content.directoryHead.seq);
    return content;
  }

  /** The same of what is sealed in the form of a frame for this purpose, whatever its counter. */
  async believe(frame, purpose, met = async () => {}) {
    const { number, sender } = readEnvelope(frame);
    const key = await this.#key(number);
    if (key === null) return null;
    const content = openFrame(frame, key, { bus: this.room.bus, room: this.room.id, number }, purpose);
    await this.logs.mustKnow(this.room, content);
    await met(content);
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

  // Note where the frame stands in its session, and what is missing before it.
  async #meet(frame, { sentAt }) {
    const { sender, unsettled, counter } = readEnvelope(frame);
    const session = this.#sessionOf(frame);
    const settled = counter - unsettled; // all below it were stored
    const skipped = Math.max(0, settled - session.newest - 1);
    const proven = [...session.open].filter((one) => one < settled && one !== counter);
    if (skipped + proven.length > 0 && !(await this.#mayBeDropped(session.sentAt))) this.missing.push(sender);
    for (const one of [...proven, counter]) session.open.delete(one);
    for (let one = Math.max(session.newest + 1, settled); one < counter; one++) session.open.add(one);
    session.late = counter < session.newest;
    if (!session.late) Object.assign(session, { newest: counter, sentAt });
  }

  // Whether the room asked for what was sent after that time, or at any, to be dropped by now.
  async #mayBeDropped(sentAt) {
    await this.logs.refreshRoom(this.room.id);
    const { retentions } = this.room;
    if (retentions.some(({ bytes }) => bytes != null)) return true;
    const seconds = retentions.flatMap((one) => one.seconds ?? []);
    if (seconds.length === 0) return false;
    return sentAt === null || (Date.now() - sentAt) / 1000 > Math.min(...seconds) - CLOCKS;
  }

  #sessionOf(frame) {
    const { sender, session } = readEnvelope(frame);
    const name = `${sender} ${session.toString("hex")}`;
    if (!this.sessions.has(name)) {
      this.sessions.set(name, { seen: [], newest: -1, sentAt: null, open: new Set(), late: false });
    }
    return this.sessions.get(name);
  }

  #mustBeNew(frame) {
    const { counter } = readEnvelope(frame);
    const session = this.#sessionOf(frame);
    const newest = Math.max(-1, ...session.seen);
    const replayed = session.seen.includes(counter) || counter <= newest - WINDOW;
    if (replayed) throw new Refused("frame-replayed", "the frame was there before");
    const { sender, session: id } = readEnvelope(frame);
    const [own, anew] = [id, sessionAnew(id, counter)].map((bytes) => `${sender} ${bytes.toString("hex")}`);
    if (this.replaced.has(own) || this.believed.has(anew))
      throw new Refused("frame-replayed", "the frame was sealed anew, and both are shown");
    const floor = Math.max(newest, counter) - WINDOW;
    session.seen = [...session.seen.filter((one) => one > floor), counter];
    if (session.late) throw new Refused("frame-reordered", "later ones of its session came before it");
    this.believed.add(own);
    this.replaced.add(anew);
  }
}
