/**
 * The client as a program: each line on standard input is a command as JSON, each line on standard output its result.
 * A refusal is `{"refused": code, "why": …}`. Nothing is kept between commands but what is on disk, so that each is a
 * new start. Secrets come in by no other way.
 */

import { createInterface } from "node:readline";
import { getBlob, putBlob } from "./client/blobs.js";
import { enter, join } from "./client/member.js";

const COMMANDS = {
  join: async ({ file, token, handle }) => ({ user: (await join(file, token, handle)).identity.user }),
  read: async ({ file, room, count }) => {
    const member = await enter(file);
    return member.read(await member.room(room), count);
  },
  send: async ({ file, room, texts }) => {
    const member = await enter(file);
    return { numbers: await member.send(await member.room(room), texts) };
  },
  put: async ({ file, room, name, data }) => {
    const member = await enter(file);
    return { id: await putBlob(member, await member.room(room), name, Buffer.from(data, "base64url")) };
  },
  get: async ({ file, room, name }) => {
    const member = await enter(file);
    const { handle, data } = await getBlob(member, await member.room(room), name);
    return { handle, data: data.toString("base64url") };
  },
  show: async ({ file }) => (await enter(file)).show(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...given } = JSON.parse(line);
  const result = await COMMANDS[command](given).catch((error) => {
    if (!error.code) throw error;
    return { refused: error.code, why: error.message };
  });
  console.log(JSON.stringify(result));
}
