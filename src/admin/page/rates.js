// Rates and given shares, from successive counts of the server.

/// Queries per second are those of the last seconds.
const RECENT = 10_000;
/// Given shares are those of the last minutes.
const WINDOW = 300_000;
const STEP = 10_000;
/// The least answers of a pool in the window for shares from it; below, those since the server counts.
const ENOUGH = 50;
const LINE = 60;

export class Rates {
  constructor() {
    this.recent = [];
    this.windows = [];
    this.line = [];
  }

  add({ status }) {
    const at = Date.parse(status.at);
    const answers = new Map();
    for (const pool of status.pools) {
      answers.set(pool.name, new Map(pool.backends.map((backend) => [backend.name, backend.answers])));
    }
    const services = new Map(status.services.map((service) => [service.name, service.answers]));
    const sample = { at, queries: status.queries, services, answers };
    const last = this.recent.at(-1);
    // Another process counts from 0 again.
    if (last && (status.queries < last.queries || at < last.at)) {
      [this.recent, this.windows, this.line] = [[], [], []];
    } else if (last && at > last.at) {
      this.line.push(((status.queries - last.queries) * 1000) / (at - last.at));
      if (this.line.length > LINE) this.line.shift();
    }
    this.recent.push({ at, queries: sample.queries, services });
    while (this.recent.length > 2 && this.recent[1].at <= at - RECENT) this.recent.shift();
    this.now = sample;
    if (at - (this.windows.at(-1)?.at ?? -Infinity) >= STEP) this.windows.push(sample);
    while (this.windows.length > 2 && this.windows[1].at <= at - WINDOW) this.windows.shift();
  }

  perSecond(count) {
    const [first, last] = [this.recent[0], this.recent.at(-1)];
    if (!first || first === last || first.at === last.at) return null;
    const [before, after] = [count(first), count(last)];
    return before === undefined ? null : Math.max(0, ((after - before) * 1000) / (last.at - first.at));
  }

  queries() {
    return this.perSecond((sample) => sample.queries);
  }

  ofService(name) {
    return this.perSecond((sample) => sample.services.get(name));
  }

  /// The part of the answers of a pool that contained each backend, by name; null for a pool without answers.
  given(pool) {
    const now = this.now?.answers.get(pool);
    if (!now) return null;
    const before = this.windows[0] === this.now ? undefined : this.windows[0]?.answers.get(pool);
    const since = (earlier) => new Map([...now].map(([name, count]) => [name, Math.max(0, count - (earlier?.get(name) ?? 0))]));
    const sum = (counts) => [...counts.values()].reduce((total, count) => total + count, 0);
    let counts = since(before);
    let total = sum(counts);
    if (before && total < ENOUGH) {
      counts = now;
      total = sum(now);
    }
    return total > 0 ? { share: (name) => (counts.get(name) ?? 0) / total, total } : null;
  }
}
