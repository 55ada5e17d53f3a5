// Overrides of a backend: its state and its weight.

import { backendPath } from "./api.js";
import { nameOf, ofBackend, ttlOf } from "./model.js";
import { open } from "./preview.js";
import { clock, lasting, length, parseTime } from "./words.js";

const STATES = [
  ["drain", "Drain", "no new answers; clients that have it stay"],
  ["disabled", "Disable", "not answered and not counted, still probed"],
  ["down", "Down", "as if unhealthy"],
  ["up", "Up", "as if healthy"],
];

/// Opens the dialog for a backend, with an action chosen: `drain`, `auto` or `more`.
export function changeBackend(model, poolName, name, action, onDone) {
  const pool = model.pools.get(poolName);
  const backend = pool?.backends.find((known) => known.name === name);
  if (!backend) return;
  const now = model.now();
  const { word, over } = ofBackend(backend, now);
  const { override, weight_override: weight } = backend;
  const chosen = action === "more" ? (over ? "auto" : weight ? "weight" : "drain") : action;
  const states = STATES.filter(([state]) => state !== over || override.until);
  const choices = [
    ...(override ? [["auto", "Auto", `end ${over}, so that the checks decide: now ${word}`]] : []),
    ...states,
    ["weight", "Weight", "a part of its configured weight", weight ? String(weight.percent) : "50"],
    ...(weight ? [["weight-auto", "Configured weight", `end the ${weight.percent} %`]] : []),
  ];
  open({
    title: `Change ${poolName}/${name}`,
    now: [`Now: ${word}`, ...[override, weight].filter(Boolean).map((kept) => lasting(kept.state ?? `${kept.percent} %`, kept.until, now))].join("; "),
    legend: "Override",
    choices: choices.map(([value, text, hint, figure]) => ({ value, text, hint, figure, isChosen: value === chosen })),
    requestFor: (fields) => requestFor(fields, { model, pool, backend }),
    onDone,
  });
}

function requestFor({ choice, percent, length: lasts, reason }, { model, pool, backend }) {
  const kind = choice.startsWith("weight") ? "weight" : "override";
  const path = backendPath(pool.name, backend.name, kind);
  const kept = kind === "weight" ? backend.weight_override : backend.override;
  const { name } = backend;
  const terms = { ...(lasts && { for: lasts }), ...(reason && { reason }) };
  const end = lasts ? `It ends by itself after ${lasts}` : "It stays until you end it";
  if (choice === "auto" || choice === "weight-auto") {
    const sentences = choice === "auto"
      ? [`The checks of ${name} decide again: now ${ofBackend(backend, model.now()).word}`]
      : [`${name} gets its configured weight of ${backend.weight}`];
    return { method: "DELETE", path, kept, sentences, button: choice === "auto" ? "End the override" : "End it", done: () => `${name} follows its ${choice === "auto" ? "checks" : "configured weight"} again` };
  }
  if (choice === "weight") {
    const figure = Number(percent);
    const sentences = [`${name} gets ${percent} % of its weight of ${backend.weight}`, end];
    return { method: "PUT", path, kept, hasTerms: true, body: { percent: percent === "" ? null : figure, ...terms }, sentences, button: `Set ${percent} %`, done: () => `${name} has ${percent} % of its weight` };
  }
  const [, text] = STATES.find(([state]) => state === choice) ?? [];
  if (!text) return null;
  const takesOut = choice !== "up";
  return {
    method: "PUT", path, kept, hasTerms: true, body: { state: choice, ...terms },
    sentences: [...meaning(choice, model, pool, name), end],
    button: `${text} ${name}`,
    done: (told) => `${name}: ${choice}${takesOut ? safety(told, model) : ""}`,
  };
}

/// The meaning of the state for clients of this backend.
function meaning(state, model, pool, name) {
  const services = model.servicesOf(pool.name).map(({ service }) => nameOf(service));
  if (state === "up") return [`${name} is answered as if healthy, whatever its checks say`];
  const ttl = ttlOf(pool.name, model);
  if (services.length === 0) return [`No service uses ${pool.name}, so no client notices`];
  return [`New answers leave ${name} out at once; clients that have it may use it for up to ${ttl} s more (TTL)`];
}

function safety(told, model) {
  const at = parseTime(told.safe_at);
  const now = model.now();
  if (at === null) return ". It is still answered, because its service fails open";
  return at > now ? `. Safe to stop from ${clock(at, now)}, in ${length(at - now)}` : ". No client uses it any more";
}
