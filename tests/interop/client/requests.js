/**
 * Signed requests to a node, and its refusals by name. A nonce is new for every attempt, and an answer is only ever
 * believed as far as what follows verifies. (docs/protocol.md, "HTTP")
 */

import { randomBytes } from "node:crypto";
import { b64u, Refused, sha256 } from "./encoding.js";
import { sign } from "./signing.js";

const JSON_TYPE = { "Content-Type": "application/json" };
const PROBLEM = "urn:unibus:problem:";
const OURS = ["log-rolled-back", "log-forked", "log-invalid", "sealed-key-missing", "sealed-key-invalid"].concat(
  ["frame-invalid", "frame-replayed", "old-epoch", "blob-invalid", "untrusted"], // only a client finds these
);

/**
 * The headers that sign a request: RFC 9421 in the one form of unibus. `created` is Unix seconds, `given` the nonce that
 * the node gave out, if one is used.
 */
export function signedHeaders(identity, bus, method, uri, body, created, nonce, given) {
  const digest = body && `sha-256=:${sha256(body).toString("base64")}:`;
  const covered = ['"@method"', '"@target-uri"', ...(body ? ['"content-digest"'] : [])].join(" ");
  const nonces = given ? `${b64u(nonce)}.${given}` : b64u(nonce);
  const params = `(${covered});created=${created};nonce="${nonces}";alg="ed25519";keyid="${identity.user}";tag="unibus:${bus}"`;
  const digestLine = body ? [`"content-digest": ${digest}`] : [];
  const base = [`"@method": ${method}`, `"@target-uri": ${uri}`, ...digestLine, `"@signature-params": ${params}`];
  const signature = sign(identity.signing, Buffer.from(base.join("\n"))).toString("base64");
  const headers = { "Signature-Input": `unibus=${params}`, Signature: `unibus=:${signature}:` };
  return body ? { "Content-Digest": digest, ...headers } : headers;
}

/** One identity's way to one node. `base` is the node's address without a slash at the end. */
export class Requests {
  constructor(base, identity, bus) {
    Object.assign(this, { base, identity, bus });
  }

  /** The answer's JSON to a request without a body. */
  async get(path) {
    return (await this.send("GET", path)).json();
  }

  /** All items of a list, which comes in pages of that member. */
  async *list(path, items) {
    for (let after = ""; after !== null;) {
      const page = await this.get(`${path}${after && `?after=${after}`}`);
      yield* page[items];
      if (page.next !== null && page.next <= after) throw new Refused("untrusted", "the list goes round");
      after = page.next;
    }
  }

  /** The answer's JSON to a body of JSON. */
  async post(path, value) {
    return (await this.send("POST", path, Buffer.from(JSON.stringify(value)), JSON_TYPE)).json();
  }

  /** The same with PUT. */
  async put(path, value) {
    return (await this.send("PUT", path, Buffer.from(JSON.stringify(value)), JSON_TYPE)).json();
  }

  /** The answer to a signed request, whose body is still to be read; a refusal is thrown under its name. */
  async send(method, path, body, headers = {}) {
    const uri = new URL(this.base + path).href; // as it goes over the wire, which is what is signed
    const now = Math.floor(Date.now() / 1000);
    const signed = signedHeaders(this.identity, this.bus, method, uri, body, now, randomBytes(16));
    const answer = await fetch(uri, { method, body, headers: { ...headers, ...signed }, redirect: "error" });
    if (answer.ok) return answer;
    throw await refusal(answer);
  }
}

async function refusal(answer) {
  const said = await answer.json().catch(() => ({}));
  const code = String(said.type ?? "").startsWith(PROBLEM) ? said.type.slice(PROBLEM.length) : "untrusted";
  const shown = String(said.detail ?? answer.status).replaceAll(/\p{Cc}/gu, "");
  return Object.assign(new Refused(OURS.includes(code) ? "untrusted" : code, shown), { problem: said });
}
