// The last outcomes of a check as a small drawing: a bar for each, as high as it took long; failures are full bars with a
// gap, so that they are seen without colours too.

import { s, setAttribute } from "./dom.js";
import { milliseconds, plural } from "./words.js";

const BARS = 20;
const STEP = 5;
const HEIGHT = 20;
/// From a thirtieth of a millisecond to some seconds, each tenfold time by as much higher.
const LOWEST = -1.5;
const RANGE = 5;

const KINDS = ["passed", "failed", "draining", "void"];

export class Timeline {
  constructor() {
    this.paths = KINDS.map((kind) => s("path", { class: kind }));
    this.node = s("svg", { class: "timeline", viewBox: `0 0 ${BARS * STEP} ${HEIGHT}`, role: "img" }, ...this.paths);
    this.shown = null;
  }

  update(outcomes) {
    if (outcomes === this.shown) return;
    this.shown = outcomes;
    const drawn = Object.fromEntries(KINDS.map((kind) => [kind, ""]));
    const first = BARS - outcomes.length;
    outcomes.forEach(({ outcome, duration_ms: ms }, index) => {
      const x = (first + index) * STEP + 2;
      const height = Math.max(2, Math.min(1, (Math.log10(Math.max(ms, 0.01)) - LOWEST) / RANGE) * (HEIGHT - 2));
      drawn[outcome] += outcome === "failed" || outcome === "void"
        ? `M${x} ${HEIGHT}V${HEIGHT - 11}M${x} ${HEIGHT - 15}V0`
        : `M${x} ${HEIGHT}V${(HEIGHT - height).toFixed(1)}`;
    });
    KINDS.forEach((kind, index) => setAttribute(this.paths[index], "d", drawn[kind]));
    setAttribute(this.node, "aria-label", words(outcomes));
  }
}

/// `20 outcomes: 18 passed, 2 failed; the median took 1.2 ms`.
function words(outcomes) {
  if (outcomes.length === 0) return "no outcome yet";
  const counts = KINDS.map((kind) => [kind, outcomes.filter(({ outcome }) => outcome === kind).length]);
  const parts = counts.filter(([, count]) => count > 0).map(([kind, count]) => `${count} ${kind}`);
  const sorted = outcomes.map(({ duration_ms: ms }) => ms).sort((a, b) => a - b);
  return `Last ${plural(outcomes.length, "outcome")}: ${parts.join(", ")}; the median took ${milliseconds(sorted[sorted.length >> 1])}`;
}
