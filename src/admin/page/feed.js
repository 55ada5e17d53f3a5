// When to ask for the status: every two seconds, at once after an event, never while a request is under way, and rarely
// while nobody sees the page.

import { Refused, request } from "./api.js";
import { measure } from "./measure.js";
import { askForTokenOnce } from "./token.js";

const PERIOD = 2000;
const HIDDEN = 15_000;
const AFTER_EVENT = 150;
const AFTER_FAULT = 3000;

export class Feed {
  /// `onStatus` gets each status, with how far the clock of the server is ahead, and `onFault` the reason why there is none.
  constructor(onStatus, onFault) {
    [this.onStatus, this.onFault] = [onStatus, onFault];
    this.isBusy = false;
    this.isWanted = false;
    this.timer = null;
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.soon(0);
    });
  }

  /// Asks within `delay`, or right after the request under way.
  soon(delay = AFTER_EVENT) {
    if (this.isBusy) {
      this.isWanted = true;
      return;
    }
    this.schedule(delay);
  }

  schedule(delay) {
    const due = performance.now() + delay;
    if (this.timer !== null && this.due <= due) return;
    clearTimeout(this.timer);
    this.due = due;
    this.timer = setTimeout(() => this.ask(), delay);
  }

  async ask() {
    this.timer = null;
    if (this.isBusy) return;
    this.isBusy = true;
    this.isWanted = false;
    let pause = document.hidden ? HIDDEN : PERIOD;
    try {
      const sent = Date.now();
      const text = await request("status", { asText: true, quiet: true });
      const received = Date.now();
      const start = performance.now();
      const status = JSON.parse(text);
      // The server stamps it between the two.
      const offset = Date.parse(status.at) - (sent + received) / 2;
      this.onStatus(status, Math.abs(offset) < 1000 ? 0 : offset);
      measure("steerd-update", start);
    } catch (error) {
      this.onFault(error);
      const isToken = error instanceof Refused && error.status === 401;
      pause = isToken ? null : AFTER_FAULT;
      // With another token it is asked again.
      if (isToken) askForTokenOnce(error);
    }
    this.isBusy = false;
    // Without the token, it waits until there is one.
    if (pause !== null) this.schedule(this.isWanted ? AFTER_EVENT : pause);
  }
}
