// The tier of a service: failover by hand, and failback.

import { servicePath } from "./api.js";
import { nameOf, why } from "./model.js";
import { open } from "./preview.js";
import { clock, length, parseTime } from "./words.js";

/// Opens the dialog for a failover.
export function failOver(model, service, onDone) {
  const { failover } = service;
  const answers = new Set(Object.values(service.tier));
  const name = nameOf(service);
  const pools = service.pools.map((pool) => {
    const state = model.pools.get(pool)?.usable ? "usable" : "not usable";
    return { value: `pool ${pool}`, text: pool, hint: [state, answers.has(pool) ? "answers now" : ""].filter(Boolean).join(", ") };
  });
  const end = failover ? [{ value: "auto", text: "Auto", hint: `end the failover to ${failover.pool}; the tiers decide again` }] : [];
  const choices = [...end, ...pools];
  const chosen = failover ? choices[0] : (choices.find(({ text }) => !answers.has(text)) ?? choices[0]);
  open({
    title: `Fail over ${name}`,
    now: [`Now answered from ${[...answers].filter(Boolean).join(" and ") || "no tier"}`, ...why(service, model)].join("; "),
    legend: "Answer from",
    choices: choices.map((choice) => ({ ...choice, isChosen: choice === chosen })),
    requestFor: ({ choice, length: lasts, reason }) => {
      const path = servicePath(service.name, "failover");
      if (choice === "auto") {
        return { method: "DELETE", path, kept: failover, sentences: [`The failover to ${failover.pool} ends; ${name} returns according to its failback (${service.failback})`], button: "End the failover", done: () => `The failover of ${name} has ended` };
      }
      const pool = choice.slice("pool ".length);
      const body = { pool, ...(lasts && { for: lasts }), ...(reason && { reason }) };
      const sentences = [`${name} is answered by ${pool} whenever that is usable`, lasts ? `It ends by itself after ${lasts}` : "It stays until you end it"];
      return { method: "PUT", path, kept: failover, hasTerms: true, body, sentences, button: `Fail over to ${pool}`, done: (told) => `${name} fails over to ${pool}${safety(told, model)}` };
    },
    onDone,
  });
}

/// Opens the dialog for a failback.
export function failBack(model, service, onDone) {
  const name = nameOf(service);
  open({
    title: `Fail back ${name}`,
    now: why(service, model).join("; "),
    legend: "Failback",
    choices: [],
    requestFor: () => ({
      method: "POST", path: servicePath(service.name, "failback"), sentences: [`${name} returns to its first usable tier now`], button: "Fail back", done: () => `${name} has returned to its first usable tier`,
    }),
    onDone,
  });
}

function safety({ safe_at: text }, model) {
  const at = parseTime(text);
  const now = model.now();
  return at !== null && at > now ? `. No client uses the other pools from ${clock(at, now)}, in ${length(at - now)}` : "";
}
