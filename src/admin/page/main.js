// Brings the parts of the page together.

import { Refused, Unreachable } from "./api.js";
import { changeBackend } from "./change.js";
import { $, setAttribute, setHidden, setText } from "./dom.js";
import { Events } from "./events.js";
import { Explain } from "./explain.js";
import { failBack, failOver } from "./failover.js";
import { Feed } from "./feed.js";
import { History } from "./history.js";
import { Model } from "./model.js";
import { Pools } from "./pools.js";
import { prepareChange } from "./preview.js";
import { Rates } from "./rates.js";
import { Services } from "./services.js";
import { prepareToken } from "./token.js";
import { Trouble } from "./trouble.js";
import { length, rate, whole } from "./words.js";

const history = new History();
const rates = new Rates();
let model = null;
let heard = null;
let fault = null;
/// The fault of this page itself that keeps it from showing the last answer.
let broken = null;

const reveal = (id, pool) => pools.reveal(id, pool);
const load = (pool, again) => {
  history.load(pool, again).then((isNew) => {
    if (isNew) pools.refresh();
  });
};
const change = (pool, backend, action) => changeBackend(model, pool, backend, action, () => feed.soon(0));
const pools = new Pools({ change, load });
const explain = new Explain();
const services = new Services({
  failOver: (service) => failOver(model, service, () => feed.soon(0)),
  failBack: (service) => failBack(model, service, () => feed.soon(0)),
  explain: (service) => explain.ask(service.name),
  reveal,
});
const trouble = new Trouble(reveal);
const feed = new Feed(show, fail);
const events = new Events(() => feed.soon());

function show(status, offset) {
  try {
    draw(status, offset);
    broken = null;
  } catch (error) {
    console.error(error);
    broken = error;
  }
  [heard, fault] = [Date.now(), null];
  contact();
}

function draw(status, offset) {
  const changed = changedPools(status);
  model = new Model(status, offset);
  rates.add(model);
  history.add(model);
  trouble.update(model);
  services.update(model, rates);
  pools.update(model, rates, history);
  explain.update(model);
  facts(status);
  for (const pool of changed) load(pool, true);
}

/// The pools with open details of which an address has changed, so that their last changes are loaded again.
function changedPools(status) {
  if (!model) return [];
  const isOpen = (name) => [...(pools.sections.known.get(name)?.rows?.known.values() ?? [])].some((row) => row.detail);
  const times = (pool) => pool?.backends.flatMap((backend) => backend.addresses.map(({ since }) => since)).join();
  return status.pools.filter((pool) => isOpen(pool.name) && times(pool) !== times(model.pools.get(pool.name)));
}

function fail(error) {
  fault = error;
  if (error instanceof Refused && error.status === 401) {
    setText($("summary"), "This server shows its state only with its token");
    setAttribute($("summary"), "data-level", "waiting");
  } else if (!model) {
    const why = error instanceof Refused || error instanceof Unreachable ? error.message : "its answer cannot be read";
    setText($("summary"), `No state: ${why}`);
    setAttribute($("summary"), "data-level", "trouble");
  }
  contact();
}

function facts(status) {
  setText($("generation"), whole(status.generation));
  setText($("version"), status.version);
  const queries = rates.queries();
  setText($("queries"), queries === null ? "–" : `${rate(queries)}/s`);
  const most = Math.max(...rates.line, 1);
  const points = rates.line.map((value, index) => `${60 - rates.line.length + index} ${(15 - (value / most) * 14).toFixed(1)}`);
  setAttribute($("queries-line").firstElementChild, "d", points.length > 1 ? `M${points.join("L")}` : "");
}

/// When the server was last heard of; after some seconds of silence, that what is shown is old.
function contact() {
  const silence = heard === null ? null : Date.now() - heard;
  const isOld = silence !== null && fault !== null && silence > 4000;
  const text = broken ? "not shown" : silence === null ? (fault ? "no answer" : "waiting") : silence < 3000 ? "now" : `${length(silence)} ago`;
  setText($("contact"), text);
  setAttribute($("contact"), "data-contact", silence === null ? "waiting" : isOld || broken ? "lost" : "live");
  setAttribute(document.body, "data-stale", isOld || broken ? "yes" : null);
  if (isOld) {
    setText($("summary"), `No contact with the server for ${length(silence)}: ${fault.message}. Everything below is old`);
    setAttribute($("summary"), "data-level", "trouble");
  } else if (broken) {
    setText($("summary"), `This page cannot show the state: ${broken.message}. Load it again, or use \`steerd status\``);
    setAttribute($("summary"), "data-level", "trouble");
  }
}

setText($("host"), location.host);
prepareToken(() => {
  feed.soon(0);
  events.start();
});
prepareChange();
setHidden($("events-more"), true);
setInterval(() => {
  if (document.hidden) return;
  contact();
  if (model) trouble.tick(model.now());
}, 1000);
feed.soon(0);
events.start();
