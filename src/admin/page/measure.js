// How long the work of the page takes, for the developer tools.

/// Notes the time from `start` until now. Only the last one of each name is kept, because a page may stay open for months.
export function measure(name, start) {
  performance.clearMeasures(name);
  performance.measure(name, { start });
}
