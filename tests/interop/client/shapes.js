/**
 * Forms of values as they stand on the page: closed objects, bounded integers, keys, names. Each is a function
 * that says whether a value has the form; none changes a value.
 */

import { unb64u } from "./encoding.js";
import { userKey } from "./nkeys.js";

const holds = (read) => (value) => {
  try {
    read(value);
    return true;
  } catch {
    return false;
  }
};

export const exactly = (wanted) => (value) => value === wanted;
export const oneOf =
  (...wanted) =>
  (value) =>
    wanted.includes(value);
export const integer = (least, most) => (value) => Number.isInteger(value) && value >= least && value <= most;
export const bytes = (size) => holds((value) => unb64u(value, size));
export const text = (pattern) => (value) => typeof value === "string" && pattern.test(value);
export const nullOr = (form) => (value) => value === null || form(value);
export const any = () => true;
export const user = holds(userKey);

/** A member that may be left out or null. */
export const optional = (form) => Object.assign(nullOr(form), { optional: true });

/** An object with these members and no others. */
export const object = (members) => (value) =>
  typeof value === "object" &&
  value !== null &&
  !Array.isArray(value) &&
  Object.keys(value).every((name) => Object.hasOwn(members, name)) &&
  Object.entries(members).every(([name, form]) => (Object.hasOwn(value, name) ? form(value[name]) : form.optional));

export const handle = text(/^[a-z0-9][a-z0-9._-]{0,31}$/);
export const card = (value) => typeof value === "string" && value.length <= 4096;
export const head = object({ seq: integer(1, 2 ** 31), hash: bytes(32) });
export const roomId = text(/^[a-z2-7]{26}$/);

const HIDING =
  /[\u{0}-\u{1F}\u{7F}-\u{9F}\u{AD}\u{34F}\u{61C}\u{115F}\u{1160}\u{17B4}\u{17B5}\u{180B}-\u{180F}\u{200B}-\u{200F}\u{2028}-\u{202E}\u{2060}-\u{206F}\u{3164}\u{D800}-\u{DFFF}\u{FE00}-\u{FE0F}\u{FEFF}\u{FFA0}\u{FFF0}-\u{FFFF}\u{E0000}-\u{E0FFF}]/u;

/** What may stand where a room's name belongs; whether it is one is for the room's rules. */
export const nameText = (value) => typeof value === "string" && [...value].length <= 64;

/** A room's name: 1 to 64 code points, none of which hides or reorders, no blank at either end. */
export function roomName(value) {
  if (typeof value !== "string" || value.startsWith(" ") || value.endsWith(" ")) return false;
  const length = [...value].length;
  return length >= 1 && length <= 64 && !HIDING.test(value);
}
