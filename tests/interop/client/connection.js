/**
 * A connection to the bus with the stock NATS client, and publishing frames over it.
 * The server chooses what is signed at connecting: what is no nonce is not signed. (docs/protocol.md, "The bus")
 */

import { connect, headers, nkeyAuthenticator } from "@nats-io/transport-node";
import { Refused } from "./encoding.js";

const NONCE = /^[A-Za-z0-9_-]{1,64}$/;
const TRIES = 5;

/** A connection as `identity` that opens these rooms for writing. */
export async function connectTo(server, identity, rooms) {
  const sign = nkeyAuthenticator(Buffer.from(identity.seed));
  return connect({
    servers: server,
    inboxPrefix: `_INBOX_${identity.user}`,
    token: `rooms=${rooms.join(",")}`,
    authenticator: (nonce) => {
      if (!NONCE.test(nonce ?? "")) throw new Refused("untrusted", "what the bus wants signed is not a nonce");
      return sign(nonce);
    },
  });
}

/** Store a frame; its number in the stream. Sent again as it is, under the same id, until it is acknowledged. */
export async function publish(connection, identity, room, frame) {
  const id = headers();
  id.set("Nats-Msg-Id", frame.subarray(-64, -40).toString("base64url"));
  const subject = `room.${room}.msg.${identity.user}`;
  for (let tries = 1; ; tries++) {
    const answer = await connection.request(subject, frame, { headers: id, timeout: 5000 }).then(
      (message) => message.json(),
      (error) => ({ error: { code: 503, description: error.message } }),
    );
    if (!answer.error) return answer.seq;
    if (answer.error.code < 500 || tries === TRIES) {
      throw new Refused("bus-unavailable", `the bus refused the frame: ${answer.error.description}`);
    }
  }
}
