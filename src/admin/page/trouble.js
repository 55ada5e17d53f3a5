// The top of the page: one sentence, and below it what is wrong or out of the ordinary, the most urgent first.

import { $, Keyed, h, setAttribute, setHidden, setText } from "./dom.js";
import { troubles } from "./model.js";
import { fullTime, length, list, plural, whole } from "./words.js";

const WORDS = { trouble: "Trouble", notice: "Notice", override: "Override" };
/// Screen readers are told at most so often.
const QUIET = 5000;

export class Trouble {
  /// `reveal` shows the element with an id, also within a closed pool.
  constructor(reveal) {
    this.list = new Keyed($("trouble"), () => new Item(reveal));
    this.told = null;
    this.toldAt = 0;
  }

  update(model) {
    const found = troubles(model);
    this.list.update(found, (item) => item.key, model.now());
    setHidden($("trouble"), found.length === 0);
    const count = (level) => found.filter((item) => item.level === level).length;
    const trouble = count("trouble");
    const level = trouble > 0 ? "trouble" : count("notice") > 0 ? "notice" : "fine";
    const summary = sentence(model, trouble, found.length - trouble);
    setText($("summary"), summary);
    setAttribute($("summary"), "data-level", level);
    document.title = trouble > 0 ? `(${trouble}) steerd ${location.hostname}` : `steerd ${location.hostname}`;
    this.announce(found.filter((item) => item.level === "trouble"));
  }

  /// Tells screen readers which trouble is new, and when there is none any more.
  announce(trouble) {
    const keys = new Set(trouble.map((item) => item.key));
    const fresh = trouble.filter((item) => this.told !== null && !this.told.has(item.key));
    const isOver = this.told !== null && this.told.size > 0 && keys.size === 0;
    if ((fresh.length > 0 || isOver) && Date.now() - this.toldAt < QUIET) return;
    if (fresh.length > 0) setText($("announce"), `New trouble: ${list(fresh.map((item) => item.title), 3)}`);
    else if (isOver) setText($("announce"), "All trouble is over");
    if (fresh.length > 0 || isOver) this.toldAt = Date.now();
    this.told = keys;
  }

  /// Times go on between two answers of the server.
  tick(now) {
    for (const entry of this.list.known.values()) entry.tick(now);
  }
}

class Item {
  constructor(reveal) {
    this.level = h("span", { class: "level" });
    this.title = h("a", { class: "title" });
    this.since = h("time", { class: "since" });
    this.why = h("span", { class: "why" });
    this.node = h("li", {}, this.level, this.title, this.since, this.why);
    this.title.addEventListener("click", (event) => {
      event.preventDefault();
      reveal(this.target, this.pool);
    });
  }

  update({ level, title, since, why, target, pool }, now) {
    setAttribute(this.node, "data-level", level);
    setText(this.level, WORDS[level]);
    setText(this.title, title);
    setAttribute(this.title, "href", target ? `#${target}` : null);
    setText(this.why, why ?? "");
    [this.target, this.pool, this.at] = [target, pool, since];
    if (since) {
      setAttribute(this.since, "datetime", new Date(since).toISOString());
      setAttribute(this.since, "title", `since ${fullTime(since)}`);
    }
    this.tick(now);
  }

  tick(now) {
    setText(this.since, this.at ? `for ${length(now - this.at)}` : "");
  }
}

function sentence({ status }, trouble, notices) {
  const services = status.services.length;
  const bad = status.services.filter(({ down }) => down).length;
  const addresses = status.pools.flatMap((pool) => pool.backends).filter(({ enabled }) => enabled).flatMap((backend) => backend.addresses);
  const healthy = addresses.filter(({ state }) => state === "healthy").length;
  const answered = bad > 0
    ? `${bad} of ${plural(services, "service")} ${bad === 1 ? "has" : "have"} no usable pool`
    : services === 1 ? "The service is answered" : `All ${plural(services, "service")} are answered`;
  const backends = `${whole(healthy)} of ${plural(addresses.length, "address", "addresses")} healthy`;
  const rest = trouble === 0 && notices > 0 ? `, ${plural(notices, "notice")}` : "";
  return `${services === 0 ? "No service is configured" : answered}, ${backends}${rest}`;
}
