// The events, as they happen: from a stream of the server, or by asking again and again if there is none.

import { request, send } from "./api.js";
import { $, h, setAttribute, setHidden, setText } from "./dom.js";
import { fullTime, clock, parseTime, whole } from "./words.js";

/// As many as the server keeps.
const KEPT = 1000;
const FIRST = 30;
const POLL = 5000;
const LONGEST_PAUSE = 30_000;
/// How long a stream is given up after the server has refused it.
const WITHOUT_STREAM = 60_000;
/// The server sends something at least every 15 s; a stream that is silent for longer than this is dead.
const SILENCE = 40_000;
/// The kind of the line that stands where events are missing.
const GAP = "gap";

export class Events {
  /// `onEvent` is called when something has happened.
  constructor(onEvent) {
    this.onEvent = onEvent;
    this.events = [];
    this.ids = new Set();
    this.last = null;
    this.limit = FIRST;
    this.running = null;
    this.gaps = 0;
    $("events-serious").addEventListener("change", () => this.render());
    $("events-more").addEventListener("click", () => {
      this.limit = KEPT;
      this.render();
    });
  }

  /// Begins, or begins again with another token.
  start() {
    this.running?.abort();
    this.running = new AbortController();
    this.run(this.running.signal);
  }

  async run(signal) {
    let pause = 1000;
    let streamAfter = 0;
    while (!signal.aborted) {
      try {
        await this.poll(signal);
        if (performance.now() >= streamAfter) {
          await this.stream(signal, () => {
            pause = 1000;
          });
        }
      } catch (error) {
        if (signal.aborted) return;
        // Without the token, `start` begins again when there is one.
        if (error.status === 401) return;
        if (error.status) streamAfter = performance.now() + WITHOUT_STREAM;
      }
      const isPolling = performance.now() < streamAfter;
      await sleep(isPolling ? POLL : pause, signal);
      pause = Math.min(pause * 2, LONGEST_PAUSE);
    }
  }

  /// Takes all events since the last one.
  async poll(signal) {
    const { events, missed, last } = await request(`events${this.after()}`, { signal, quiet: true });
    const isBack = this.last !== null && last < this.last;
    if ((missed || isBack) && this.last !== null) this.addGap(events);
    this.add(events);
    this.last = isBack ? null : last;
    // The server has begun again with its clock set back: all of its events are new.
    if (isBack) await this.poll(signal);
  }

  /// Takes events as they come, until the stream ends.
  async stream(signal, onOpen) {
    const silence = new Watchdog(SILENCE);
    try {
      await this.read(AbortSignal.any([signal, silence.signal]), () => silence.begin(), onOpen);
    } finally {
      silence.end();
    }
  }

  async read(signal, onSign, onOpen) {
    const response = await send(`events${this.after()}`, { signal, headers: { Accept: "text/event-stream" } });
    if (!response.headers.get("content-type")?.startsWith("text/event-stream")) throw Object.assign(new Error("no stream"), { status: 406 });
    onOpen();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      onSign();
      text = (text + value).replaceAll("\r", "");
      const blocks = text.split("\n\n");
      text = blocks.pop();
      const events = blocks.map(eventOf).filter(Boolean);
      if (blocks.some((block) => /^event: ?missed$/m.test(block))) this.addGap(events);
      this.add(events);
    }
  }

  after() {
    return this.last === null ? "" : `?after=${this.last}`;
  }

  add(events) {
    const fresh = events.filter(({ id }) => !this.ids.has(id));
    if (fresh.length === 0) return;
    for (const event of fresh) {
      this.ids.add(event.id);
      this.events.push(event);
      this.last = event.id;
    }
    this.changed();
  }

  /// Notes that events before these are missing.
  addGap([next]) {
    this.gaps += 1;
    const at = next?.at ?? new Date().toISOString();
    this.events.push({ id: `${GAP} ${this.gaps}`, at, kind: GAP, severity: "warning", message: "The server has restarted, or some events were missed" });
    this.changed();
  }

  changed() {
    for (const { id } of this.events.splice(0, Math.max(0, this.events.length - KEPT))) this.ids.delete(id);
    this.onEvent();
    this.due ??= requestAnimationFrame(() => this.render());
  }

  render() {
    this.due = null;
    const isSerious = $("events-serious").checked;
    const listed = this.events.filter(({ severity }) => !isSerious || severity !== "info").reverse();
    const shown = listed.slice(0, this.limit);
    this.nodes ??= new Map();
    const nodes = new Map(shown.map((event) => [event.id, this.nodes.get(event.id) ?? line(event)]));
    for (const [id, node] of this.nodes) if (!nodes.has(id)) node.remove();
    let place = $("events-list").firstChild;
    for (const node of nodes.values()) {
      if (node === place) place = place.nextSibling;
      else $("events-list").insertBefore(node, place);
    }
    this.nodes = nodes;
    setText($("events-count"), this.events.length > 0 ? whole(this.events.filter(({ kind }) => kind !== GAP).length) : "");
    setHidden($("events-more"), listed.length <= this.limit);
    setText($("events-more"), `Show all ${whole(listed.length)}`);
    setText($("events-note"), listed.length > 0 ? "" : isSerious ? "No warning and no error." : "No event yet.");
  }
}

function eventOf(block) {
  const data = block.split("\n").filter((text) => text.startsWith("data:")).map((text) => text.slice(5).trimStart()).join("\n");
  if (data === "") return null;
  try {
    const event = JSON.parse(data);
    return typeof event.id === "number" ? event : null;
  } catch {
    return null;
  }
}

const WORDS = { info: "Info", warning: "Warning", error: "Error" };

/// Fields that have their own place in a line, or that the message tells.
const PLACED = new Set(["id", "at", "kind", "severity", "message", "until", "service", "reason", "asked_by"]);

/// A value as `steerd events` shows it: without quotes, unless it has spaces.
const plain = (value) => (typeof value === "string" && !value.includes(" ") ? value : JSON.stringify(value));

function line(event) {
  const { at, kind, severity, message, pool, backend, service, reason, asked_by: by } = event;
  const time = parseTime(at);
  const about = service ?? (pool && backend ? `${pool}/${backend}` : pool);
  const subject = about && !message.includes(about) ? h("strong", {}, `${about}: `) : null;
  const isPlaced = (name) => PLACED.has(name) || (!service && (name === "pool" || name === "backend"));
  const facts = Object.entries(event).filter(([name]) => !isPlaced(name)).map(([name, value]) => `${name}=${plain(value)}`);
  const more = [facts.join(" "), reason && !message.includes(reason) ? reason : "", by ? `by ${by}` : ""].filter(Boolean);
  const node = h("li", {},
    h("time", { datetime: at, title: fullTime(time) }, clock(time, Date.now())),
    h("span", { class: "level" }, WORDS[severity] ?? severity),
    h("span", { class: "kind" }, kind),
    h("span", { class: "message" }, subject, message, more.length > 0 ? h("span", { class: "note" }, ` ${more.join(" · ")}`) : null));
  setAttribute(node, "data-severity", severity);
  return node;
}

/// Aborts its signal when nothing has begun it again for some time.
class Watchdog {
  constructor(patience) {
    this.patience = patience;
    this.controller = new AbortController();
    this.begin();
  }

  get signal() {
    return this.controller.signal;
  }

  begin() {
    this.end();
    this.timer = setTimeout(() => this.controller.abort(), this.patience);
  }

  end() {
    clearTimeout(this.timer);
  }
}

function sleep(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });
}

