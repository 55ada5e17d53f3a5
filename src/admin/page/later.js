// Rows out of sight wait until the browser has time: what is in sight is drawn at once, the rest in slices that nobody
// notices.

import { measure } from "./measure.js";

/// Milliseconds of work at a time.
const SLICE = 8;
/// The longest that a row waits, milliseconds, unless others wait before it.
const PATIENCE = 1000;

const rows = new WeakMap();
const waiting = new Set();
let isDue = false;

const observer = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const row = rows.get(target);
    row.isSeen = isIntersecting;
    if (isIntersecting && waiting.delete(row)) row.draw();
  }
}, { rootMargin: "400px" });

/// Notes whether a row is in sight, from now on.
export function watch(row) {
  rows.set(row.node, row);
  observer.observe(row.node);
}

/// Draws a row now if it is in sight, or has never been drawn, otherwise later.
export function draw(row) {
  if (row.isSeen !== false) {
    row.draw();
    return;
  }
  waiting.add(row);
  if (!isDue) schedule();
}

/// Safari has no idle time.
const whenIdle = window.requestIdleCallback ?? ((act) => setTimeout(act, 50));

function schedule() {
  isDue = true;
  whenIdle(() => {
    const start = performance.now();
    const end = start + SLICE;
    for (const row of waiting) {
      waiting.delete(row);
      if (row.node.isConnected) row.draw();
      if (performance.now() >= end) break;
    }
    measure("steerd-slice", start);
    isDue = false;
    if (waiting.size > 0) schedule();
  }, { timeout: PATIENCE });
}
