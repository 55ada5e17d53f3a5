// The pools: a section for each, with its share of healthy weight and the table of its backends.

import { BackendRow } from "./backend.js";
import { $, Keyed, h, setAttribute, setHidden, setProperty, setText } from "./dom.js";
import { URGENCY, countOf, nameOf, ofBackend, ofPool, poolId } from "./model.js";
import { list, length, parseTime, percent, plural, whole } from "./words.js";

/// Pools are open at first if all of them together have no more backends than this, otherwise those with trouble.
const ALL_OPEN = 60;
/// The most rows of a pool until more are asked for.
const FIRST = 50;
/// In larger pools, backends with trouble come first.
const ORDERED = 20;

const COLUMNS = ["Backend", "State", "Last outcome", "Last probes", "Wanted, given", "Weight", "Change"];

export class Pools {
  /// `actions` has `change`, for a pool, a backend and an action, and `load`, for the history of a pool.
  constructor(actions) {
    this.actions = actions;
    this.sections = new Keyed($("pools-body"), ({ pool }) => new Section(pool, this));
    this.filter = "";
    $("filter").addEventListener("input", () => {
      this.filter = $("filter").value.trim().toLowerCase();
      this.refresh();
    });
  }

  update(model, rates, history) {
    this.shown = [model, rates, history];
    this.isSmall ??= model.status.pools.reduce((sum, pool) => sum + pool.backends.length, 0) <= ALL_OPEN;
    const pools = model.status.pools.map((pool) => ({ pool, found: this.found(pool) }));
    const listed = this.filter ? pools.filter(({ found }) => found.length > 0) : pools;
    this.sections.update(pools, ({ pool }) => pool.name, model, rates, history);
    const backends = pools.reduce((sum, { pool }) => sum + pool.backends.length, 0);
    setText($("pools-count"), `${whole(pools.length)}, ${plural(backends, "backend")}`);
    const count = listed.reduce((sum, { found }) => sum + found.length, 0);
    setText($("pools-note"), this.filter ? `${plural(count, "backend")} of ${plural(listed.length, "pool")} match` : "");
  }

  refresh() {
    if (this.shown) this.update(...this.shown);
  }

  found(pool) {
    if (!this.filter) return pool.backends;
    if (pool.name.toLowerCase().includes(this.filter)) return pool.backends;
    const now = this.shown[0].now();
    return pool.backends.filter((backend) => {
      const { word, over } = ofBackend(backend, now);
      const texts = [backend.name, backend.site ?? "", word, over ?? "", ...backend.addresses.map((address) => address.address)];
      return texts.some((text) => text.toLowerCase().includes(this.filter));
    });
  }

  /// Shows a pool, or a backend of it, although it is closed, filtered out or further down.
  reveal(id, name) {
    const section = () => this.sections.known.get(name);
    section()?.setOpen(true);
    if (this.filter !== "" && name && !document.getElementById(id)?.checkVisibility()) {
      [this.filter, $("filter").value] = ["", ""];
      this.refresh();
    }
    if (!document.getElementById(id)) section()?.showAll();
    const node = document.getElementById(id);
    node?.scrollIntoView({ block: "center" });
    node?.focus({ preventScroll: true });
  }
}

class Section {
  constructor(pool, pools) {
    this.pools = pools;
    this.id = poolId(pool.name);
    this.limit = FIRST;
    this.button = h("button", { type: "button", class: "fold", "aria-controls": `${this.id}-body` });
    this.button.addEventListener("click", () => {
      this.setOpen(!this.isOpen);
    });
    this.title = h("h3", { id: `${this.id}-title` }, this.button);
    this.state = h("span", { class: "chip" });
    this.healthy = h("span", {});
    this.weight = h("span", { class: "share" });
    this.bar = h("span", { class: "bar", "aria-hidden": "true" });
    this.tiers = h("span", { class: "note" });
    this.since = h("span", { class: "note" });
    const head = h("div", { class: "pool-head" }, this.title, this.state, h("span", { class: "health" }, this.bar, this.weight), this.healthy, this.since, this.tiers);
    this.body = h("div", { id: `${this.id}-body`, class: "pool-body" });
    this.node = h("section", { class: "pool", id: this.id, "aria-labelledby": `${this.id}-title`, tabindex: "-1" }, head, this.body);
  }

  update({ pool, found }, model, rates, history) {
    this.pool = pool;
    setHidden(this.node, this.pools.filter !== "" && found.length === 0);
    if (this.node.hidden) return;
    const now = model.now();
    const level = ofPool(pool);
    this.isOpen ??= this.pools.isSmall || level !== "fine";
    const { healthy, counted } = countOf(pool);
    setText(this.button, pool.name);
    setText(this.state, pool.usable ? pool.state : "not usable");
    setAttribute(this.state, "data-level", level);
    const share = pool.total_weight > 0 ? pool.healthy_weight / pool.total_weight : 0;
    setProperty(this.bar, "--part", `${(share * 100).toFixed(2)}%`);
    setAttribute(this.bar, "data-level", level);
    setText(this.weight, `${percent(share)} of weight healthy`);
    setText(this.healthy, `${whole(healthy)} of ${plural(counted, "address", "addresses")}`);
    setText(this.since, pool.usable ? "" : `for ${length(now - parseTime(pool.since))}`);
    const users = model.servicesOf(pool.name);
    const words = users.slice(0, 3).map(({ service, tier }) => `tier ${tier} of ${nameOf(service)}`);
    setText(this.tiers, users.length === 0 ? "no service uses it" : list(users.length > 3 ? [...words, `${users.length - 3} more`] : words));
    const isOpen = this.isOpen || this.pools.filter !== "";
    setAttribute(this.button, "aria-expanded", isOpen ? "true" : "false");
    setHidden(this.body, !isOpen);
    if (!isOpen) return;
    this.pools.actions.load(pool);
    this.table ??= this.makeTable();
    const shown = this.ordered(found, now);
    const context = { pool, model, rates: rates.given(pool.name), history, now };
    this.rows.update(shown.slice(0, this.limit), (backend) => backend.name, context);
    setHidden(this.more, found.length <= this.limit);
    setText(this.more, `Show all ${whole(found.length)} backends`);
  }

  makeTable() {
    const heads = COLUMNS.map((name) => h("th", { scope: "col", role: "columnheader" }, name));
    const rows = h("tbody", { role: "rowgroup" });
    const caption = h("caption", { class: "visually-hidden" }, `Backends of ${this.pool.name}`);
    const head = h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...heads));
    this.rows = new Keyed(rows, (backend) => new BackendRow(this.pool, backend));
    this.more = h("button", { type: "button", class: "more", hidden: true });
    this.more.addEventListener("click", () => this.showAll());
    const table = h("table", { class: "backends", role: "table" }, caption, head, rows);
    this.body.append(table, this.more);
    // One listener for all rows.
    table.addEventListener("click", (event) => {
      const button = event.target.closest("button[data-action]");
      const name = button?.closest("tr[data-backend]")?.dataset.backend;
      if (name === undefined) return;
      if (button.dataset.action === "detail") this.rows.known.get(name).toggle();
      else this.pools.actions.change(this.pool.name, name, button.dataset.action);
    });
    return table;
  }

  /// In large pools, those with trouble first. The order stays while someone is at work in it.
  ordered(backends, now) {
    if (backends.length <= ORDERED) return backends;
    if (this.order && this.body.contains(document.activeElement)) {
      const place = new Map(this.order.map((name, index) => [name, index]));
      return [...backends].sort((a, b) => (place.get(a.name) ?? Infinity) - (place.get(b.name) ?? Infinity));
    }
    const ranks = new Map(backends.map((backend) => [backend, URGENCY[ofBackend(backend, now).level]]));
    const sorted = [...backends].sort((a, b) => ranks.get(a) - ranks.get(b));
    this.order = sorted.map((backend) => backend.name);
    return sorted;
  }

  setOpen(isOpen) {
    this.isOpen = isOpen;
    this.pools.refresh();
  }

  showAll() {
    this.limit = Infinity;
    this.pools.refresh();
  }
}

