/**
 * The client as a program: one command, its arguments as a JSON object on standard input, its result as one on
 * standard output. A refusal is `{"refused": code, "why": …}`. Secrets come in by no other way.
 */

import { text } from "node:stream/consumers";
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
  show: async ({ file }) => (await enter(file)).show(),
};

const given = JSON.parse(await text(process.stdin));
const result = await COMMANDS[process.argv[2]](given).catch((error) => {
  if (!error.code) throw error;
  return { refused: error.code, why: error.message };
});
console.log(JSON.stringify(result));
