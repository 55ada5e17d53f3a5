// A backend: its row, and below it the details of its addresses and checks.

import { Detail } from "./detail.js";
import { h, setAttribute, setHidden, setProperty, setText } from "./dom.js";
import { draw, watch } from "./later.js";
import { backendId, backendSince, certificateOf, ofBackend, shownCheck } from "./model.js";
import { Timeline } from "./timeline.js";
import { clock, fullTime, lasting, length, milliseconds, parseTime, percent, roughly } from "./words.js";

const cell = (label, ...children) => h("td", { role: "cell", "data-label": label }, ...children);

export class BackendRow {
  constructor(pool, backend) {
    this.id = backendId(pool.name, backend.name);
    const of = `${pool.name}/${backend.name}`;
    this.name = h("button", { type: "button", class: "fold name", "data-action": "detail", "aria-expanded": "false" }, backend.name);
    this.addresses = h("span", { class: "addresses" });
    this.state = h("span", { class: "state" });
    this.since = h("time", { class: "since" });
    this.notes = h("span", { class: "notes" });
    this.outcome = h("span", { class: "outcome" });
    this.took = h("span", { class: "took" });
    this.timeline = new Timeline();
    this.wanted = h("span", { class: "wanted" });
    this.given = h("span", { class: "given" });
    this.bars = h("span", { class: "bars", "aria-hidden": "true" }, h("i"), h("i"));
    this.weight = cell("Weight");
    this.weight.classList.add("figure");
    this.drain = h("button", { type: "button", class: "quiet" });
    const more = h("button", { type: "button", class: "quiet", "data-action": "more", "aria-label": `Change ${of}` }, "Change…");
    this.node = h("tr", { role: "row", id: this.id, "data-backend": backend.name, tabindex: "-1" },
      h("th", { scope: "row", role: "rowheader", "data-label": "Backend" }, this.name, this.addresses),
      cell("State", this.state, this.since, this.notes),
      cell("Last outcome", this.outcome, this.took),
      cell("Last probes", this.timeline.node),
      cell("Wanted, given", this.bars, h("span", { class: "shares" }, this.wanted, this.given)),
      this.weight,
      cell("Change", h("span", { class: "buttons" }, this.drain, more)));
    this.of = of;
    this.detail = null;
    this.tail = null;
  }

  update(backend, context) {
    const isFirst = this.last === undefined;
    this.last = [backend, context];
    draw(this);
    if (isFirst) watch(this);
  }

  draw() {
    const [backend, context] = this.last;
    const { pool, history, now, rates } = context;
    const { word, mark, level, over } = ofBackend(backend, now);
    const { addresses, site } = backend;
    setText(this.addresses, `${addresses.length === 1 ? addresses[0].address : addresses.map(({ address }) => address).join(" · ")}${site ? ` · site ${site}` : ""}`);
    setText(this.state, over ? `${over} (${word})` : word);
    setAttribute(this.state, "data-mark", over && over !== "up" ? "out" : mark);
    setAttribute(this.node, "data-level", level);
    const since = parseTime(backendSince(backend));
    setText(this.since, backend.enabled && since ? roughly(now - since) : "");
    if (this.at !== since && since) {
      this.at = since;
      setAttribute(this.since, "datetime", new Date(since).toISOString());
      setAttribute(this.since, "title", `since ${fullTime(since)}`);
    }
    setText(this.notes, notes(backend, now).join(" · "));
    const shown = backend.enabled ? shownCheck(backend) : null;
    const last = shown?.check.last;
    setText(this.outcome, last ? last.detail || last.outcome : backend.enabled ? "no outcome yet" : "not probed");
    setAttribute(this.outcome, "data-outcome", last?.outcome ?? null);
    setText(this.took, last ? milliseconds(last.duration_ms) : "");
    this.timeline.update(shown ? history.of(pool.name, backend.name, shown.address.address, shown.check.name) : []);
    this.shares(backend, rates);
    const override = backend.weight_override;
    setText(this.weight, override ? `${override.percent} % of ${backend.weight}` : String(backend.weight));
    setAttribute(this.drain, "data-action", over ? "auto" : "drain");
    setText(this.drain, over ? "Auto…" : "Drain…");
    setAttribute(this.drain, "aria-label", over ? `Auto for ${this.of}: end the override` : `Drain ${this.of}`);
    setHidden(this.drain, !backend.enabled);
    this.detail?.update(backend, context);
  }

  shares(backend, rates) {
    const wanted = backend.shares.length > 0 ? Math.max(...backend.shares.map(({ wanted }) => wanted)) : 0;
    const differ = backend.shares.some((share) => Math.abs(share.wanted - wanted) > 1e-4);
    const given = rates ? rates.share(backend.name) : null;
    if (this.drawn?.wanted !== wanted) setProperty(this.bars, "--wanted", `${(wanted * 100).toFixed(2)}%`);
    if (this.drawn?.given !== given) setProperty(this.bars, "--given", `${((given ?? 0) * 100).toFixed(2)}%`);
    this.drawn = { wanted, given };
    setText(this.wanted, `${differ ? "≤ " : ""}${percent(wanted)}`);
    setText(this.given, given === null ? "–" : percent(given));
  }

  /// Opens or closes the details.
  toggle() {
    if (this.detail) {
      this.tail.remove();
      [this.detail, this.tail] = [null, null];
    } else {
      this.detail = new Detail(`${this.id}-detail`);
      this.detail.update(...this.last);
      this.tail = this.detail.node;
      this.node.after(this.tail);
    }
    setAttribute(this.name, "aria-expanded", this.detail ? "true" : "false");
    setAttribute(this.name, "aria-controls", this.detail ? this.detail.node.id : null);
  }
}

/// Additions to the state by an operator, a hold, slow start or a certificate.
function notes(backend, now) {
  const found = [];
  for (const kept of [backend.override, backend.weight_override]) {
    if (!kept) continue;
    found.push(lasting(kept.state ?? `${kept.percent} %`, kept.until, now));
    if (kept.reason) found.push(kept.reason);
  }
  const safe = parseTime(backend.safe_at);
  if (safe !== null) {
    found.push(safe > now ? `clients may use it until ${clock(safe, now)} (${length(safe - now)})` : "no client uses it any more, if clients respect TTLs");
  }
  for (const address of backend.addresses) {
    if (!backend.enabled) break;
    const held = parseTime(address.held_until);
    if (address.held) found.push(`passes its checks, held back${held ? ` until ${clock(held, now)}` : ""}`);
    else if (address.percent < 100) found.push(`${address.percent} % of its weight by slow start or load`);
  }
  const certificate = certificateOf(backend, now);
  if (certificate) found.push(certificate.at > now ? `certificate ends in ${length(certificate.at - now)}` : `certificate ended ${length(now - certificate.at)} ago`);
  return found;
}
