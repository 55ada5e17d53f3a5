// Why a client gets an answer: the form, and the explanation of the server in words and tables.

import { request } from "./api.js";
import { $, Keyed, h } from "./dom.js";
import { nameOf } from "./model.js";
import { list, percent, plural } from "./words.js";

const OUTCOMES = {
  tier: "a usable tier answers",
  "fail-open": "no tier is usable, so all backends are answered as if healthy (fail open)",
  "no-address": "there is no address of this type",
  down: "no tier is usable",
};

export class Explain {
  constructor() {
    this.form = $("explain-form");
    this.names = new Keyed($("explain-names"), () => new Choice());
    this.asking = null;
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
  }

  update(model) {
    this.names.update(model.status.services, (service) => service.name);
    const field = this.form.elements.name;
    if (field.value === "" && document.activeElement !== field && !this.isTouched && model.status.services.length > 0) {
      field.value = nameOf(model.status.services[0]);
      this.isTouched = true;
    }
  }

  /// Explains a service, in place of what is in the form.
  ask(name) {
    this.form.elements.name.value = name;
    this.submit();
    $("explain").scrollIntoView();
    this.form.elements.name.focus({ preventScroll: true });
  }

  async submit() {
    this.asking?.abort();
    this.asking = new AbortController();
    const { signal } = this.asking;
    const fields = ["name", "type", "client", "resolver"].map((name) => [name, this.form.elements[name].value.trim()]);
    const query = new URLSearchParams(fields.filter(([, value]) => value !== ""));
    try {
      const told = await request(`explain?${query}`, { signal });
      $("explain-result").replaceChildren(...explanation(told));
    } catch (error) {
      if (!signal.aborted) $("explain-result").replaceChildren(h("p", { class: "fault" }, error.message));
    }
  }
}

class Choice {
  constructor() {
    this.node = h("option", {});
  }

  update(service) {
    this.node.value = nameOf(service);
  }
}

function explanation(told) {
  const { service, sample } = told;
  const nodes = [h("p", { class: "answer" }, sentence(told))];
  if (service) {
    const facts = [
      service.rule === null ? "" : `rule ${service.rule}${service.rule_clients ? ` for ${service.rule_clients}` : ""}`,
      service.failover ? `failover to ${service.failover.pool}${service.failover.reason ? `: ${service.failover.reason}` : ""}` : "",
      service.waiting ? `${service.waiting.pool} is usable again and not taken yet` : "",
      service.pending ? `${service.pending.change}: until then the TTL is shorter` : "",
      `policy ${service.policy}, ${service.answers === null ? "all addresses" : `at most ${plural(service.answers, "address", "addresses")}`}`,
      told.client.scope === null ? "" : `the answer holds for the network /${told.client.scope}`,
    ];
    nodes.push(h("p", { class: "note" }, facts.filter(Boolean).join(" · ")));
    nodes.push(tierTable(service));
    for (const tier of service.tiers) if (tier.backends.some(({ drawn }) => drawn.length > 0)) nodes.push(backendTable(tier, sample));
    if (service.backends_left_out > 0) nodes.push(h("p", { class: "note" }, `${plural(service.backends_left_out, "backend")} more`));
  }
  return nodes;
}

function sentence({ name, type, zone, rcode, service, sample }) {
  if (!service) {
    return zone === null ? `${name} is in no zone of this server (${rcode ?? "no answer"})` : `${name} ${type} is answered from the zone ${zone}: ${rcode ?? "no answer"}`;
  }
  const from = service.pool ? ` from ${service.pool}` : "";
  const answer = sample.addresses.length > 0 ? `for example ${list(sample.addresses, 8)}, for ${sample.ttl} s` : `${rcode ?? "no answer"} without an address`;
  return `${service.name} ${type}${from}, because ${OUTCOMES[service.outcome] ?? service.outcome}${service.on_trust ? ", on trust" : ""}: ${answer}`;
}

function table(caption, heads, rows, kind) {
  const head = h("tr", { role: "row" }, ...heads.map((name) => h("th", { scope: "col", role: "columnheader" }, name)));
  const row = (cells) => h("tr", { role: "row" }, ...cells.map((text, index) => (index === 0
    ? h("th", { scope: "row", role: "rowheader", "data-label": heads[0] }, text)
    : h("td", { role: "cell", "data-label": heads[index] }, text))));
  return h("table", { class: kind, role: "table" }, h("caption", {}, caption), h("thead", { role: "rowgroup" }, head), h("tbody", { role: "rowgroup" }, ...rows.map(row)));
}

function tierTable({ tiers }) {
  const rows = tiers.map((tier, index) => [
    `${index + 1}. ${tier.pool}`, tier.because || tier.verdict, `${tier.eligible} of ${tier.addresses}`, `${tier.eligible_weight} of ${tier.weight}`,
  ]);
  return table("Tiers in order", ["Tier", "Verdict", "Eligible", "Weight"], rows, "plain");
}

function backendTable(tier, { addresses }) {
  const rows = tier.backends.flatMap((backend) => backend.drawn.map((drawn) => [
    backend.name, drawn.address, String(drawn.weight), percent(drawn.first), percent(drawn.included),
    ...(drawn.rank === undefined ? [] : [String(drawn.rank)]), addresses.includes(drawn.address) ? "yes" : "",
  ]));
  const ranked = tier.backends.some(({ drawn }) => drawn.some(({ rank }) => rank !== undefined));
  return table(`Addresses drawn from ${tier.pool}`, ["Backend", "Address", "Weight", "First", "In an answer", ...(ranked ? ["Rank"] : []), "In the example"], rows, "plain");
}

