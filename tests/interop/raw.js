/**
 * What a stock NATS client can do with only a user's seed, and knowing nothing else of unibus: connect, read a room's frames as
 * they are, and store frames; and what it is refused. One JSON object comes in on standard input, and one goes out.
 */

import { randomBytes } from "node:crypto";
import { text } from "node:stream/consumers";
import { connect, headers, nkeyAuthenticator } from "@nats-io/transport-node";

const { server, seed, user, room, frame, forbidden } = JSON.parse(await text(process.stdin));
const connection = await connect({
  servers: server,
  authenticator: nkeyAuthenticator(new TextEncoder().encode(seed)),
  inboxPrefix: `_INBOX_${user}`,
});
const unique = () => randomBytes(18).toString("base64url");

const token = unique();
const delivered = connection.subscribe(`dlv.${user}.${token}`, { max: 1 });
const opened = await connection.request(`ctl.${user}.deliver`, JSON.stringify({ after: 0, room, token }));
let first;
for await (const message of delivered) first = Buffer.from(message.data).toString("base64url");

// What it was handed, and once more what it read: the bus takes both, and it is for readers to see through them.
const stored = [];
for (const data of [frame, first]) {
  const id = headers();
  id.set("Nats-Msg-Id", unique());
  const answer = await connection.request(`room.${room}.msg.${user}`, Buffer.from(data, "base64url"), { headers: id });
  stored.push(answer.json().seq);
}

const refused = [];
const statuses = connection.status();
for (const subject of forbidden) connection.publish(subject);
for await (const { type, error } of statuses) {
  if (type === "error") refused.push(error.subject);
  if (refused.length === forbidden.length) break;
}
await connection.close();

console.log(JSON.stringify({ opened: opened.json(), stored, first, refused }));
