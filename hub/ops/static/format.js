// Numbers, shares and times as people read them.

const NUMBER = new Intl.NumberFormat("en");
const CLOCK = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hour12: false,
});
const DAY = new Intl.DateTimeFormat(undefined, {
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
  hour12: false,
});
const DATE = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });

/** 12345 → "12,345" */
export const number = (value) => NUMBER.format(value);

/** Basis points as a percentage: 2550 → "25.5%" */
export const share = (basisPoints) => `${+(basisPoints / 100).toFixed(2)}%`;

/** A part of a whole as a percentage; something that is there is never "0%", and not all is never "100%". */
export function part(count, whole) {
  if (!whole) return "–";
  const percent = (100 * count) / whole;
  if (count > 0 && percent < 1) return "<1%";
  if (count < whole && percent > 99) return ">99%";
  return `${Math.round(percent)}%`;
}

/** "1 device", "2 devices" */
export const count = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;

/** A time of day. */
export const clock = (at) => CLOCK.format(new Date(at));

/** A day and a time of day, of another year a date; "never" for none. */
export function moment(at) {
  if (!at) return "never";
  const date = new Date(at);
  return (date.getFullYear() === new Date().getFullYear() ? DAY : DATE).format(date);
}

/** How long ago, roughly: "12 s", "3 min", "5 h", "2 d" */
export function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  for (const [unit, size] of [
    ["d", 86_400],
    ["h", 3_600],
    ["min", 60],
  ]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${seconds} s`;
}

/** How long ago a time was; "never" for none. */
export const ago = (at, now = Date.now()) => (at ? `${span(now - Date.parse(at))} ago` : "never");

/** "safe_mode" → "safe mode" */
export const words = (name) => String(name ?? "").replaceAll("_", " ");

/** "safe_mode" → "Safe mode" */
export const title = (name) => words(name).replace(/^./, (letter) => letter.toUpperCase());
