// The details of a backend below its row: each check of each address, overrides, and the last changes of state.

import { Keyed, h, setAttribute, setText } from "./dom.js";
import { Timeline } from "./timeline.js";
import { clock, day, fullTime, lasting, milliseconds, parseTime, roughly } from "./words.js";

const CHECK_COLUMNS = ["Check", "State", "Last outcome", "Last probes", "Certificate"];
const MOST_TRANSITIONS = 8;

export class Detail {
  constructor(id) {
    this.overrides = h("ul", { class: "facts-list" });
    this.addresses = h("div", {});
    this.node = h("tr", { role: "row", class: "detail", id }, h("td", { role: "cell", colspan: "7" }, this.overrides, this.addresses));
    this.lines = new Keyed(this.overrides, () => new Line());
    this.blocks = new Keyed(this.addresses, (address) => new AddressBlock(address));
  }

  update(backend, context) {
    const { now } = context;
    const kept = [backend.override, backend.weight_override].filter(Boolean).map((override) => {
      const what = override.state ?? `${override.percent} % of its weight`;
      const by = override.by ? `, by ${override.by}` : "";
      const since = override.since ? `, since ${clock(parseTime(override.since), now)}` : "";
      return `${lasting(what, override.until, now)}${since}${by}${override.reason ? `: ${override.reason}` : ""}`;
    });
    this.lines.update(kept, (text) => text);
    this.blocks.update(backend.addresses, (address) => address.address, backend, context);
  }
}

class Line {
  constructor() {
    this.node = h("li", {});
  }

  update(text) {
    setText(this.node, text);
  }
}

class AddressBlock {
  constructor(address) {
    this.state = h("span", { class: "state" });
    this.facts = h("span", { class: "note" });
    this.body = h("tbody", { role: "rowgroup" });
    const heads = CHECK_COLUMNS.map((name) => h("th", { scope: "col", role: "columnheader" }, name));
    this.table = h("table", { class: "checks", role: "table" },
      h("caption", { class: "visually-hidden" }, `Checks of ${address.address}`),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...heads)), this.body);
    this.changes = h("ol", { class: "transitions", "aria-label": `Last changes of ${address.address}` });
    this.node = h("div", { class: "address" }, h("p", {}, h("strong", {}, address.address), " ", this.state, " ", this.facts), this.table, this.changes);
    this.rows = new Keyed(this.body, (check) => new CheckRow(check));
    this.transitions = new Keyed(this.changes, () => new Line());
  }

  update(address, backend, context) {
    const { pool, history, now } = context;
    setText(this.state, address.state);
    setAttribute(this.state, "data-mark", address.held ? "held" : address.state);
    const facts = [
      address.since && backend.enabled ? `for ${roughly(now - parseTime(address.since))}` : "",
      address.remembered ? "remembered from the previous run" : "",
      address.eligible ? "may be answered" : "is not answered unless the service fails open",
    ];
    setText(this.facts, facts.filter(Boolean).join(", "));
    this.table.hidden = address.checks.length === 0;
    this.rows.update(address.checks, (check) => check.name, address, backend, context);
    const past = history.transitionsOf(pool.name, backend.name, address.address).slice(-MOST_TRANSITIONS).reverse();
    const words = past.map(({ at, from, to, detail }) => `${clock(parseTime(at), now)}: ${from} to ${to}${detail ? `, ${detail}` : ""}`);
    this.transitions.update(words, (text) => text);
  }
}

class CheckRow {
  constructor(check) {
    const cell = (label, ...children) => h("td", { role: "cell", "data-label": label }, ...children);
    this.state = h("span", { class: "state" });
    this.kind = h("span", { class: "note" });
    this.outcome = h("span", { class: "outcome" });
    this.took = h("span", { class: "took" });
    this.timeline = new Timeline();
    this.certificate = cell("Certificate");
    this.node = h("tr", { role: "row" },
      h("th", { scope: "row", role: "rowheader", "data-label": "Check" }, check.name, " ", this.kind),
      cell("State", this.state), cell("Last outcome", this.outcome, this.took), cell("Last probes", this.timeline.node), this.certificate);
  }

  update(check, address, backend, { pool, history, now }) {
    const roles = [check.type, check.critical ? "critical" : "", check.observe_only ? "only observed" : ""];
    setText(this.kind, roles.filter((role) => role && role !== check.name).join(", "));
    setText(this.state, check.state);
    setAttribute(this.state, "data-mark", check.state);
    const { last } = check;
    setText(this.outcome, last ? last.detail || last.outcome : "no outcome yet");
    setAttribute(this.outcome, "data-outcome", last?.outcome ?? null);
    setText(this.took, last ? `${milliseconds(last.duration_ms)}, ${roughly(now - parseTime(last.at))} ago` : "");
    this.timeline.update(history.of(pool.name, backend.name, address.address, check.name));
    const expires = parseTime(check.certificate_expires);
    setText(this.certificate, expires ? `until ${day(expires)}` : "–");
    setAttribute(this.certificate, "title", expires ? fullTime(expires) : null);
  }
}
