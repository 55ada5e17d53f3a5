// What happens, as it happens: from a stream of the server, or by asking again and again if there is none.

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

export class Events {
  /// `onEvent` is called when something has happened.
  constructor(onEvent) {
    this.onEvent = onEvent;
    this.events = [];
    this.ids = new Set();
    this.last = null;
    this.limit = FIRST;
    this.running = null;
    this.missed = false;
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
    const { events, missed } = await request(`events${this.after()}`, { signal, quiet: true });
    this.missed ||= missed && this.last !== null;
    this.add(events);
  }

  /// Takes events as they come, until the stream ends.
  async stream(signal, onOpen) {
    const response = await send(`events${this.after()}`, { signal, headers: { Accept: "text/event-stream" } });
    if (!response.headers.get("content-type")?.startsWith("text/event-stream")) throw Object.assign(new Error("no stream"), { status: 406 });
    onOpen();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text = (text + value).replaceAll("\r", "");
      const blocks = text.split("\n\n");
      text = blocks.pop();
      this.add(blocks.map(eventOf).filter(Boolean));
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
      this.last = Math.max(this.last ?? 0, event.id);
    }
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
    setText($("events-count"), this.events.length > 0 ? whole(this.events.length) : "");
    setHidden($("events-more"), listed.length <= this.limit);
    setText($("events-more"), `Show all ${whole(listed.length)}`);
    const gap = this.missed ? "Some events were missed while there was no contact" : "";
    setText($("events-note"), listed.length > 0 ? gap : isSerious ? "No warning and no error." : "No event yet.");
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

function line({ at, kind, severity, message, pool, backend, service, reason, asked_by: by }) {
  const time = parseTime(at);
  const about = service ?? (pool && backend ? `${pool}/${backend}` : pool);
  const subject = about && !message.includes(about) ? h("strong", {}, `${about}: `) : null;
  const more = [reason && !message.includes(reason) ? reason : "", by ? `by ${by}` : ""].filter(Boolean);
  const node = h("li", {},
    h("time", { datetime: at, title: fullTime(time) }, clock(time, Date.now())),
    h("span", { class: "level" }, WORDS[severity] ?? severity),
    h("span", { class: "kind" }, kind),
    h("span", { class: "message" }, subject, message, more.length > 0 ? h("span", { class: "note" }, ` ${more.join(" · ")}`) : null));
  setAttribute(node, "data-severity", severity);
  return node;
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

