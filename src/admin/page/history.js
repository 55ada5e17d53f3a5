// The last outcomes of each check: from the history of a pool once, then from each status.

import { poolPath, request } from "./api.js";

const KEPT = 20;
/// Larger pools begin with an empty history, because theirs takes seconds to send.
const LARGEST = 300;

const keyOf = (pool, backend, address, check) => `${pool}\n${backend}\n${address}\n${check}`;

export class History {
  constructor() {
    this.outcomes = new Map();
    this.transitions = new Map();
    this.loaded = new Set();
  }

  of(pool, backend, address, check) {
    return this.outcomes.get(keyOf(pool, backend, address, check)) ?? [];
  }

  transitionsOf(pool, backend, address) {
    return this.transitions.get(keyOf(pool, backend, address, "")) ?? [];
  }

  /// Adds the last outcomes of a status.
  add(model) {
    for (const pool of model.status.pools) {
      for (const backend of pool.backends) {
        for (const { address, checks } of backend.addresses) {
          for (const check of checks) {
            if (check.last) this.push(keyOf(pool.name, backend.name, address, check.name), check.last);
          }
        }
      }
    }
  }

  push(key, outcome) {
    const known = this.outcomes.get(key);
    if (!known) {
      this.outcomes.set(key, [outcome]);
    } else if (outcome.at > known.at(-1).at) {
      // A new array, so that a timeline sees that it has changed.
      this.outcomes.set(key, [...known.slice(1 - KEPT), outcome]);
    }
  }

  /// Loads the history of a pool, unless it is there already. Returns whether anything is new.
  async load(pool, again = false) {
    if (!again && (this.loaded.has(pool.name) || pool.backends.length > LARGEST)) return false;
    this.loaded.add(pool.name);
    try {
      const told = await request(poolPath(pool.name), { quiet: true });
      for (const backend of told.backends) {
        for (const { address, checks, transitions } of backend.addresses) {
          this.transitions.set(keyOf(pool.name, backend.name, address, ""), transitions);
          for (const { name, outcomes } of checks) {
            if (outcomes.length > 0) this.outcomes.set(keyOf(pool.name, backend.name, address, name), outcomes);
          }
        }
      }
      return true;
    } catch {
      this.loaded.delete(pool.name);
      return false;
    }
  }
}
