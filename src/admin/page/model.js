// The meaning of the status: states in a word, what is trouble, and why a tier answers. Nothing here touches the page.

import { length, list, parseTime, plural } from "./words.js";

const FAMILIES = ["ipv4", "ipv6"];
const CERTIFICATE_SOON = 21 * 86400e3;

/// How urgent something is; the most urgent first.
export const URGENCY = { trouble: 0, notice: 1, override: 2, fine: 3 };

/// A status with look-ups by name.
export class Model {
  constructor(status, offset) {
    this.status = status;
    /// The clock of the server is ahead of this one by so much.
    this.offset = offset;
    this.pools = new Map(status.pools.map((pool) => [pool.name, pool]));
    this.tiers = new Map();
    for (const service of status.services) {
      service.pools.forEach((pool, index) => {
        const users = this.tiers.get(pool) ?? [];
        users.push({ service, tier: index + 1 });
        this.tiers.set(pool, users);
      });
    }
  }

  /// The present time on the clock of the server.
  now() {
    return Date.now() + this.offset;
  }

  servicesOf(pool) {
    return this.tiers.get(pool) ?? [];
  }
}

/// The name of a service for people.
export const nameOf = (service) => service.unicode_name ?? service.name;

/// The pools that answer for a service, each once, with their families.
export function answering(service) {
  const pools = new Map();
  for (const family of FAMILIES) {
    const pool = service.tier[family];
    if (pool) pools.set(pool, [...(pools.get(pool) ?? []), family]);
  }
  return [...pools].map(([pool, families]) => ({ pool, families, tier: service.pools.indexOf(pool) + 1 }));
}

/// The state of a service in a word, and how urgent it is.
export function ofService(service) {
  if (service.down && service.fail_open) return { word: "fails open", level: "trouble" };
  if (service.down) return { word: "down", level: "trouble" };
  const later = Math.max(0, ...answering(service).map(({ tier }) => tier));
  if (later > 1) return { word: `tier ${later}`, level: "notice" };
  if (later === 0) return { word: "no address", level: "notice" };
  return { word: "up", level: service.failover ? "notice" : "fine" };
}

/// Why the pools that answer do so, as sentences.
export function why(service, model) {
  const now = model.now();
  const sentences = [];
  const { failover } = service;
  if (failover) sentences.push(failoverWords(failover, now));
  const tiers = answering(service).map(({ tier }) => tier);
  const waiting = new Set(FAMILIES.map((family) => service.waiting[family]?.pool).filter(Boolean));
  if (service.down) {
    const unusable = service.pools.filter((pool) => !model.pools.get(pool)?.usable);
    sentences.push(`${list(unusable)} ${unusable.length === 1 ? "is" : "are"} not usable`);
    if (service.fail_open) sentences.push("so all its backends are answered, as if healthy");
  } else if (tiers.length > 0) {
    const before = service.pools.slice(0, Math.max(...tiers) - 1);
    const unusable = before.filter((pool) => !model.pools.get(pool)?.usable && !waiting.has(pool));
    if (unusable.length > 0) sentences.push(`${unusable.map((pool) => lack(model.pools.get(pool))).join("; ")}`);
  }
  for (const pool of waiting) {
    const until = FAMILIES.map((family) => service.waiting[family]).find((tier) => tier?.pool === pool)?.until;
    const at = parseTime(until);
    sentences.push(
      at === null
        ? `${pool} is usable again, and waits for you: fail back`
        : `${pool} is usable again, and answers in ${length(at - now)} if it stays so`,
    );
  }
  return sentences;
}

function failoverWords({ pool, reason, until }, now) {
  const at = parseTime(until);
  const end = at === null ? "no end" : `${length(at - now)} left`;
  return `failover to ${pool}, ${end}${reason ? `: ${reason}` : ""}`;
}

/// Why a pool is not usable: `web has 0 of 3 healthy`.
function lack(pool) {
  if (!pool) return "";
  const { healthy, counted } = countOf(pool);
  return `${pool.name} is not usable: ${healthy} of ${counted} healthy`;
}

/// Since when a service is as it is: down or failing open since its last pool became unusable, in a later tier since the
/// last of the tiers before it did. Null if that cannot be told.
export function serviceSince(service, model) {
  const { word } = ofService(service);
  if (word === "up" || word === "no address") return null;
  if (service.failover && !service.down) return parseTime(service.failover.since);
  const last = Math.max(0, ...answering(service).map(({ tier }) => tier));
  const before = service.down ? service.pools : service.pools.slice(0, last - 1);
  const times = before.map((name) => model.pools.get(name)).filter((pool) => pool && !pool.usable);
  return times.length > 0 ? Math.max(...times.map((pool) => parseTime(pool.since))) : null;
}

/// The addresses of a pool that count, and how many of them are healthy.
export function countOf(pool) {
  let [healthy, counted] = [0, 0];
  for (const backend of pool.backends) {
    if (!backend.enabled || backend.override?.state === "disabled") continue;
    for (const address of backend.addresses) {
      counted += 1;
      if (address.state === "healthy") healthy += 1;
    }
  }
  return { healthy, counted };
}

export function ofPool(pool) {
  if (!pool.usable) return "trouble";
  return pool.state === "healthy" && !pool.suspected ? "fine" : "notice";
}

/// The state of a backend: a word and a mark from its checks, what an operator says, and how urgent it is.
export function ofBackend(backend, now) {
  return (backend[VIEW] ??= viewOf(backend, now));
}

/// Each status has its own objects, so a view is made once for each.
const VIEW = Symbol("view");

function viewOf(backend, now) {
  if (!backend.enabled) return { word: "not enabled", mark: "off", level: "fine" };
  const { addresses } = backend;
  const only = addresses.every(({ state }) => state === addresses[0].state) ? (addresses[0]?.state ?? null) : null;
  const held = addresses.some((address) => address.held);
  const over = backend.override?.state;
  const healthy = () => addresses.filter(({ state }) => state === "healthy").length;
  const word = held && only === "unhealthy" ? "held" : (only ?? `${healthy()} of ${addresses.length} healthy`);
  const mark = held ? "held" : (only ?? "mixed");
  const isNotable = over || backend.weight_override || held || addresses.some(({ percent }) => percent < 100)
    || certificateOf(backend, now) !== null || voidCheck(backend) !== null;
  let level = "fine";
  if (only === "healthy") level = isNotable ? "notice" : "fine";
  else if (over && over !== "up") level = "notice";
  else level = held || only === "unknown" || only === "draining" ? "notice" : "trouble";
  return { word, mark, level, over };
}

/// Since when a backend has its state: the last change of an address.
export function backendSince(backend) {
  return backend.addresses.reduce((last, { since }) => (since > last ? since : last), "") || null;
}

/// The check of a backend to show in its row: the first that fails and decides, otherwise the first that decides.
export function shownCheck(backend) {
  let first = null;
  for (const address of backend.addresses) {
    for (const check of address.checks) {
      if (check.observe_only) continue;
      if (check.state !== "healthy" && check.last) return { address, check };
      first ??= { address, check };
    }
  }
  return first;
}

/// The check of a backend whose last probe said nothing about it, for the longest time; null if there is none.
export function voidCheck(backend) {
  const checks = backend.addresses.flatMap((address) => address.checks).filter(({ last }) => last?.outcome === "void");
  const since = ({ void_since: at }) => at ?? "";
  return checks.reduce((first, check) => (first === null || since(check) < since(first) ? check : first), null);
}

/// The certificate of a backend that expires first, if that is soon.
export function certificateOf(backend, now) {
  let first = null;
  for (const address of backend.addresses) {
    for (const check of address.checks) {
      const at = parseTime(check.certificate_expires);
      if (at !== null && at - now < CERTIFICATE_SOON && (first === null || at < first.at)) {
        first = { at, check: check.name, address: address.address };
      }
    }
  }
  return first;
}

/// How long answers with backends of a pool live, in seconds: the longest TTL of its services.
export const ttlOf = (pool, model) => Math.max(0, ...model.servicesOf(pool).map(({ service }) => service.ttl));

/// Everything that is wrong or out of the ordinary, the most urgent first. Each has a key, a level, a title, since when,
/// the reason, and the id of the element with more about it.
export function troubles(model) {
  const now = model.now();
  const { status } = model;
  const found = [];
  const add = (level, rank, item) => found.push({ level, rank, ...item });
  for (const notice of status.notices || []) {
    add("trouble", 0, { key: `notice ${notice}`, title: "About this server", why: notice });
  }
  if (status.suspected) {
    const { since, reason } = status.suspected;
    add("trouble", 0, { key: "suspected", title: "This machine is suspected, not the backends", since, why: reason });
  }
  for (const service of status.services) {
    const { word, level } = ofService(service);
    if (level === "fine") continue;
    const since = serviceSince(service, model);
    const name = nameOf(service);
    const later = answering(service).filter(({ tier }) => tier > 1).map(({ pool }) => pool);
    const title = word.startsWith("tier")
      ? `${name} is answered by ${list(later)}, ${word}`
      : { up: `${name} has a failover`, down: `${name} is down`, "fails open": `${name} fails open` }[word]
        ?? `${name} has no address`;
    add(level, level === "trouble" ? 1 : 4, {
      key: `service ${service.name}`, title, since, why: why(service, model).join("; "), target: serviceId(service.name),
    });
  }
  for (const pool of status.pools) {
    if (pool.suspected) {
      const { since, reason } = pool.suspected;
      add("trouble", 0, { key: `suspected ${pool.name}`, title: `This machine is suspected, not ${pool.name}`, since, why: reason, target: poolId(pool.name) });
    }
    if (!pool.usable && pool.backends.length > 0) {
      const { healthy, counted } = countOf(pool);
      const isUsed = model.servicesOf(pool.name).length > 0;
      add(isUsed ? "trouble" : "notice", isUsed ? 2 : 4, {
        key: `pool ${pool.name}`, title: `Pool ${pool.name} is not usable`, since: parseTime(pool.since),
        why: [`${healthy} of ${plural(counted, "address", "addresses")} healthy`, reasonOf(pool, now)].filter(Boolean).join("; "),
        target: poolId(pool.name), pool: pool.name,
      });
    }
    ofBackends(pool, now, add);
  }
  const order = (item) => item.rank * 10 + URGENCY[item.level];
  return found.map((item, index) => ({ item, index })).sort((a, b) => order(a.item) - order(b.item) || a.index - b.index)
    .map(({ item }) => ({ ...item, since: typeof item.since === "string" ? parseTime(item.since) : item.since }));
}

const failingOf = (pool, now) => pool.backends.filter((backend) => ofBackend(backend, now).level === "trouble");

/// Why backends of a pool fail: `gw1: connection refused`.
function reasonOf(pool, now) {
  const failing = failingOf(pool, now).map((backend) => [backend.name, shownCheck(backend)?.check.last?.detail]);
  const [name, detail] = failing.find(([, detail]) => detail) ?? [];
  if (!detail) return "";
  const others = failing.filter(([, other]) => other === detail).length;
  return others === failing.length && others > 1 ? `each of them: ${detail}` : `${name}: ${detail}`;
}

/// The failing backends of a pool as one item, and what else is notable of them.
function ofBackends(pool, now, add) {
  // The item of a pool that is not usable tells of them.
  const failing = pool.usable ? failingOf(pool, now) : [];
  const [held, soon, unprobed] = [[], [], []];
  for (const backend of pool.backends) {
    if (backend.addresses.some((address) => address.held)) held.push(backend);
    if (backend.enabled && voidCheck(backend)) unprobed.push(backend);
    const certificate = certificateOf(backend, now);
    if (certificate) soon.push({ backend, at: certificate.at });
    for (const [kind, kept] of [["state", backend.override], ["weight", backend.weight_override]]) {
      if (!kept) continue;
      const value = kept.state ?? `${kept.percent} % of its weight`;
      const end = kept.until ? `${length(parseTime(kept.until) - now)} left` : "no end";
      add("override", 6, {
        key: `${kind} ${pool.name}/${backend.name}`, title: `${pool.name}/${backend.name} is overridden: ${value}`, since: kept.since,
        why: [end, kept.reason].filter(Boolean).join("; "), target: backendId(pool.name, backend.name), pool: pool.name,
      });
    }
  }
  if (failing.length > 0) {
    const since = failing.map(backendSince).sort()[0];
    const names = list(failing.map((backend) => backend.name), 3);
    add("trouble", 3, {
      key: `backends ${pool.name}`, since,
      title: `${names} of ${pool.name} ${failing.length === 1 ? "is" : "are"} unhealthy`,
      why: failing.length === 1 ? shownCheck(failing[0])?.check.last?.detail : reasonOf(pool, now),
      target: backendId(pool.name, failing[0].name), pool: pool.name,
    });
  }
  if (unprobed.length > 0) {
    const checks = unprobed.map(voidCheck);
    add("notice", 4, {
      key: `void ${pool.name}`, since: checks.map((check) => check.void_since).filter(Boolean).sort()[0] ?? null,
      title: `${list(unprobed.map((backend) => backend.name), 3)} of ${pool.name} cannot be probed from this machine`,
      why: checks[0].last.detail, target: backendId(pool.name, unprobed[0].name), pool: pool.name,
    });
  }
  if (held.length > 0) {
    const since = held.map(backendSince).sort()[0];
    add("notice", 5, {
      key: `held ${pool.name}`, since, title: `${list(held.map((backend) => backend.name), 3)} of ${pool.name} ${held.length === 1 ? "is" : "are"} held back`,
      why: "passes its checks, but fell too often", target: backendId(pool.name, held[0].name), pool: pool.name,
    });
  }
  if (soon.length > 0) {
    const first = soon.reduce((a, b) => (b.at < a.at ? b : a));
    const when = first.at > now ? `ends in ${length(first.at - now)}` : `ended ${length(now - first.at)} ago`;
    add(first.at > now ? "notice" : "trouble", 5, {
      key: `certificate ${pool.name}`, since: null,
      title: `The certificate of ${pool.name}/${first.backend.name} ${when}`,
      why: soon.length > 1 ? `${soon.length - 1} more of this pool end within 21 days` : "",
      target: backendId(pool.name, first.backend.name), pool: pool.name,
    });
  }
}

const slug = (name) => name.replace(/[^A-Za-z0-9_.:-]/g, (char) => `_${char.codePointAt(0).toString(16)}`);
export const serviceId = (name) => `service-${slug(name)}`;
export const poolId = (name) => `pool-${slug(name)}`;
export const backendId = (pool, backend) => `backend-${slug(pool)}--${slug(backend)}`;
