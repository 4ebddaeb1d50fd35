/** The cases of tests/vectors, for the tests in this folder. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

export const load = (name) => JSON.parse(readFileSync(new URL(`../vectors/${name}.json`, import.meta.url), "utf-8"));
export const hex = (text) => Buffer.from(text, "hex");
export const refuses = (code, attempt) => assert.rejects(async () => attempt(), { code });

/** One test for each case, named by its file, its list and its comment. */
export function each(file, list, check) {
  const cases = list.split(".").reduce((value, name) => value[name], load(file));
  assert.ok(cases.length > 0);
  for (const one of cases) test(`${file} ${list}: ${one.comment ?? one.name}`, () => check(one));
}
