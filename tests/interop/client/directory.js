/**
 * Who is on the bus: the directory's records, one after another, and what may stand next.
 * A record is applied only after every rule held. (docs/protocol.md, "The directory")
 */

import { transcript, unb64u } from "./encoding.js";
import { readCard } from "./identity.js";
import { must, mustFollow, readRecord } from "./records.js";
import { verify } from "./signing.js";

const CLOCKS = 300; // seconds that two honest clocks may be apart

export class Directory {
  constructor(bus) {
    this.bus = bus;
    this.hashes = []; // of the records, in order
    this.users = new Map(); // user → {user, handle, role, sealingKey, since, until}, the last two being record numbers
    this.invites = new Map(); // invite → {maker, role, handle, expires, used, withdrawn}
    this.latest = 0; // the latest time of any record of an admin's
  }

  get head() {
    return { seq: this.hashes.length, hash: this.hashes.at(-1) ?? null };
  }

  /** Whether this is a head that was verified. */
  knows({ seq, hash }) {
    return this.hashes[seq - 1] === hash;
  }

  /** Whether the user was on the bus after the record of that number. */
  had(user, seq = this.hashes.length) {
    const known = this.users.get(user);
    return known !== undefined && known.since <= seq && (known.until === null || known.until > seq);
  }

  /** Take the text as the next record; refuse it by name. */
  async append(text) {
    const record = await readRecord(text, "directory");
    const change = await this.judged(record);
    change();
    this.hashes.push(record.hash);
    const signer = this.users.get(record.signer);
    if (signer?.until === null && signer.role === "admin") this.latest = Math.max(this.latest, record.at);
  }

  /** What the record changes, once all rules held. */
  async judged(record) {
    mustFollow(record, this.bus, this.head, "bus.create");
    const { body, signer, type } = record;
    if (type === "bus.create") {
      must(record.hash === this.bus, "the directory of another bus", "log-forked");
      return this.#entering(record, "admin");
    }
    if (type === "user.join") return this.#joining(record);
    must(this.had(signer), "the signer is not on the bus", "not-a-user");
    const admin = this.users.get(signer).role === "admin";
    const self = body.user === signer && ["user.revoke", "user.rename"].includes(type);
    must(admin || self, "only an admin may do this", "forbidden");
    switch (type) {
      case "user.admit":
        return this.#entering(record, body.role);
      case "invite.create":
        must(!this.invites.has(body.invite) && !this.users.has(body.invite), "the key was used before");
        must(body.expires > record.at, "the invite expires before it is made");
        if (body.handle != null) this.#mustBeFree(body.handle);
        return () => this.invites.set(body.invite, { ...body, maker: signer, used: false, withdrawn: false });
      case "invite.withdraw":
        this.#mustBeOpen(body.invite, 0);
        return () => (this.invites.get(body.invite).withdrawn = true);
    }
    must(this.had(body.user), "the user is not on the bus");
    const target = this.users.get(body.user);
    switch (type) {
      case "user.revoke":
        must(this.#otherAdmin(body.user), "the last admin stays");
        return () => (target.until = record.seq);
      case "user.role":
        must(target.role !== body.role, "the user has the role already");
        must(body.role === "admin" || this.#otherAdmin(body.user), "the last admin stays one");
        return () => (target.role = body.role);
      case "user.rename":
        this.#mustBeFree(body.handle);
        return () => (target.handle = body.handle);
    }
  }

  async #joining(record) {
    const { invite, handle, proof } = record.body;
    this.#mustBeOpen(invite, record.at);
    const open = this.invites.get(invite);
    const proven = transcript("unibus invite proof v1", this.bus, invite, record.signer);
    must(verify(invite, proven, unb64u(proof, 64)), "the invite's proof does not hold", "forbidden");
    must((open.handle ?? handle) === handle, "the invite is for another handle");
    const enter = await this.#entering(record, open.role);
    return () => {
      enter();
      open.used = true;
    };
  }

  async #entering(record, role) {
    const { user, sealingKey } = await readCard(record.body.card);
    must(record.type === "user.admit" || user === record.signer, "another's card");
    must(!this.users.has(user), "the identity was on the bus before");
    this.#mustBeFree(record.body.handle);
    const { handle } = record.body;
    return () => this.users.set(user, { user, handle, role, sealingKey, since: record.seq, until: null });
  }

  #mustBeOpen(invite, at) {
    const known = this.invites.get(invite);
    must(known, "no such invite", "invite-unknown");
    must(!known.used, "the invite was used", "invite-used");
    const maker = this.users.get(known.maker);
    must(!known.withdrawn && maker.until === null && maker.role === "admin", "withdrawn", "invite-withdrawn");
    must(Math.max(at, this.latest - CLOCKS) <= known.expires, "the invite has expired", "invite-expired");
  }

  #mustBeFree(handle) {
    must(
      ![...this.users.values()].some((user) => user.until === null && user.handle === handle),
      "the handle is taken",
    );
  }

  #otherAdmin(user) {
    return [...this.users.values()].some((one) => one.user !== user && one.until === null && one.role === "admin");
  }
}
