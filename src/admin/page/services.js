// The table of services: state, the tier that answers and why.

import { $, Keyed, h, setAttribute, setHidden, setText } from "./dom.js";
import { answering, nameOf, ofService, poolId, serviceId, serviceSince, why } from "./model.js";
import { fullTime, rate, roughly, whole } from "./words.js";

const COLUMNS = ["Service", "State", "Answered from", "TTL", "Answers/s", "Change"];

export class Services {
  /// `actions` has `failOver`, `failBack` and `explain`, each for a service, and `reveal`.
  constructor(actions) {
    const body = h("tbody", { role: "rowgroup" });
    const heads = COLUMNS.map((name) => h("th", { scope: "col", role: "columnheader" }, name));
    const head = h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...heads));
    const caption = h("caption", { class: "visually-hidden" }, "Services, with the pool that answers for each");
    this.table = h("table", { class: "services", role: "table" }, caption, head, body);
    this.empty = h("p", { class: "note" }, "No service is configured.");
    $("services-body").append(this.table, this.empty);
    this.rows = new Keyed(body, (service) => new Row(service, actions));
  }

  update(model, rates) {
    const { services } = model.status;
    setHidden(this.table, services.length === 0);
    setHidden(this.empty, services.length > 0);
    setText($("services-count"), whole(services.length));
    this.rows.update(services, (service) => service.name, model, rates);
  }
}

const cell = (label, ...children) => h("td", { role: "cell", "data-label": label }, ...children);

class Row {
  constructor(service, actions) {
    this.name = h("span", { class: "name" });
    this.state = h("span", { class: "chip" });
    this.since = h("time", { class: "since" });
    this.pools = h("span", { class: "tiers" });
    this.why = h("span", { class: "why" });
    this.ttl = cell("TTL");
    this.rate = cell("Answers/s");
    this.ttl.classList.add("figure");
    this.rate.classList.add("figure");
    const button = (text, act) => {
      const node = h("button", { type: "button", class: "quiet", "aria-label": `${text}: ${nameOf(service)}` }, text);
      node.addEventListener("click", () => act(this.service));
      return node;
    };
    this.over = button("Fail over…", actions.failOver);
    this.back = button("Fail back…", actions.failBack);
    const explain = button("Explain", actions.explain);
    this.node = h("tr", { role: "row", id: serviceId(service.name), tabindex: "-1" },
      h("th", { scope: "row", role: "rowheader", "data-label": "Service" }, this.name),
      cell("State", this.state, this.since),
      cell("Answered from", this.pools, this.why),
      this.ttl, this.rate,
      cell("Change", h("span", { class: "buttons" }, this.over, this.back, explain)));
    this.links = new Keyed(this.pools, () => new Tier(actions.reveal));
  }

  update(service, model, rates) {
    this.service = service;
    const { word, level } = ofService(service);
    setText(this.name, nameOf(service));
    setText(this.state, word);
    setAttribute(this.state, "data-level", level);
    const since = serviceSince(service, model);
    setText(this.since, since ? roughly(model.now() - since) : "");
    setAttribute(this.since, "datetime", since ? new Date(since).toISOString() : null);
    setAttribute(this.since, "title", since ? `since ${fullTime(since)}` : null);
    this.links.update(tiers(service), (tier) => tier.pool);
    setText(this.why, why(service, model).join("; "));
    setText(this.ttl, `${service.ttl} s`);
    setText(this.rate, rate(rates.ofService(service.name)));
    setHidden(this.over, service.pools.length < 2);
    const waits = ["ipv4", "ipv6"].some((family) => service.waiting[family]);
    setHidden(this.back, !waits || service.failover !== null);
  }
}

/// All tiers of a service in order, with those that answer marked.
function tiers(service) {
  const now = new Map(answering(service).map(({ pool, families }) => [pool, families]));
  const mixed = [...now.values()].some((families) => families.length === 1) && now.size > 1;
  return service.pools.map((pool) => ({ pool, answers: now.has(pool), families: mixed ? now.get(pool) : undefined }));
}

class Tier {
  constructor(reveal) {
    this.node = h("a", { class: "tier" });
    this.node.addEventListener("click", (event) => {
      event.preventDefault();
      reveal(poolId(this.pool), this.pool);
    });
  }

  update({ pool, answers, families }) {
    this.pool = pool;
    setText(this.node, families ? `${pool} (${families.join(", ")})` : pool);
    setAttribute(this.node, "href", `#${poolId(pool)}`);
    setAttribute(this.node, "data-answers", answers ? "yes" : null);
    setAttribute(this.node, "aria-current", answers ? "true" : null);
  }
}
