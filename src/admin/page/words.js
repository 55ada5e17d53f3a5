// Figures, times and states in words.

const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

/// `8 s`, `3 min 12 s`, `4 h 5 min`, `2 d 3 h`: a length in milliseconds, with its two largest units.
export function length(ms) {
  let seconds = Math.max(0, Math.round(ms / 1000));
  const first = UNITS.findIndex(([, unit]) => seconds >= unit);
  if (first < 0) return "0 s";
  const parts = [];
  for (const [name, unit] of UNITS.slice(first, first + 2)) {
    const count = Math.floor(seconds / unit);
    if (count > 0) parts.push(`${count} ${name}`);
    seconds -= count * unit;
  }
  return parts.join(" ");
}

/// As `length`, but from two minutes on with one unit only, for columns.
export function roughly(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  const [name, unit] = UNITS.find(([, unit]) => seconds >= 2 * unit) ?? UNITS[3];
  return `${Math.floor(seconds / unit)} ${name}`;
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

/// The time of day, with the date if it is not within half a day of now.
export function clock(at, now) {
  const text = CLOCK.format(at);
  return Math.abs(at - now) < 12 * 3600e3 ? text : `${DAY.format(at)}, ${text}`;
}

export const day = (at) => DAY.format(at);
export const fullTime = (at) => FULL.format(at);

/// A time of the API in milliseconds since 1970, or null.
export const parseTime = (text) => (text ? Date.parse(text) : null);

/// `33.3 %`.
export function percent(share) {
  const value = share * 100;
  return `${value === 0 || value === 100 ? value : value.toFixed(1)} %`;
}

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/// `1,234`.
export const whole = (number) => WHOLE.format(number);

/// A rate per second: `0`, `0.4`, `12`, `1,234`.
export function rate(perSecond) {
  if (perSecond === null) return "–";
  return perSecond > 0 && perSecond < 10 ? perSecond.toFixed(1) : whole(perSecond);
}

/// Milliseconds of a probe: `0.42 ms`, `12 ms`, `1.2 s`.
export function milliseconds(ms) {
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms >= 10 ? ms.toFixed(0) : ms.toFixed(ms >= 1 ? 1 : 2)} ms`;
}

export const plural = (count, one, many = `${one}s`) => `${whole(count)} ${count === 1 ? one : many}`;

/// `a`, `a and b`, `a, b and c`; of more than `most`, the rest as a number.
export function list(names, most = 4) {
  const shown = names.length > most ? [...names.slice(0, most), `${names.length - most} more`] : names;
  if (shown.length < 2) return shown.join("");
  return `${shown.slice(0, -1).join(", ")} and ${shown.at(-1)}`;
}

/// `drain until 12:00:00 (in 24 min)`, without the author and the reason.
export function lasting(what, until, now) {
  const at = parseTime(until);
  return at === null ? `${what}, no end` : `${what} until ${clock(at, now)} (${length(at - now)} left)`;
}
