// Small charts, in SVG. Each says in words what it shows.

import { h, s } from "./dom.js";
import { number, part } from "./format.js";

/**
 * Returns a bar of stacked parts.
 * @param {{ name: string, label: string, value: number }[]} parts `name` is a condition or the like: it picks the colour
 */
export function stacked(parts, what) {
  const there = parts.filter((each) => each.value > 0);
  const whole = there.reduce((sum, each) => sum + each.value, 0);
  const words = there.map((each) => `${number(each.value)} ${each.label}`).join(", ") || "none";
  return h(
    "div",
    { class: "stacked", role: "img", "aria-label": `${what}: ${words}` },
    there.map((each) =>
      h("span", {
        class: `c-${each.name}`,
        title: `${each.label}: ${number(each.value)} (${part(each.value, whole)})`,
        style: { "flex-grow": String(each.value) },
      }),
    ),
  );
}

/** Returns a ring of parts with a number in its middle; parts as in `stacked`. */
export function ring(parts, middle, under) {
  const whole = parts.reduce((sum, each) => sum + each.value, 0);
  const radius = 44;
  const round = 2 * Math.PI * radius;
  let done = 0;
  const arcs = parts
    .filter((each) => each.value > 0)
    .map((each) => {
      // Nothing that is there is too thin to be seen.
      const length = Math.max((each.value / whole) * round, 2);
      const arc = s("circle", {
        cx: 60,
        cy: 60,
        r: radius,
        class: `arc c-${each.name}`,
        "stroke-dasharray": `${Math.max(length - 1, 1)} ${round}`,
        "stroke-dashoffset": String(-done),
      });
      arc.append(s("title", {}, `${each.label}: ${number(each.value)} (${part(each.value, whole)})`));
      done += (each.value / whole) * round;
      return arc;
    });
  return s(
    "svg",
    { viewBox: "0 0 120 120", class: "ring", role: "img", "aria-label": `${middle} ${under}` },
    s("circle", { cx: 60, cy: 60, r: radius, class: "arc track" }),
    s("g", { transform: "rotate(-90 60 60)" }, arcs),
    // Within the ring, however many digits.
    s(
      "text",
      {
        x: 60,
        y: 62,
        class: "ring-number",
        style: { "font-size": `${Math.min(20, 100 / middle.length)}px` },
      },
      middle,
    ),
    s("text", { x: 60, y: 77, class: "ring-under" }, under),
  );
}

/**
 * Returns a line over time with its mean and highest.
 * @param {{ at: number, mean: number, max: number }[]} points in the order of time (ms)
 * @param {{ what: string, format: (value: number) => string, top: number, from: number, to: number, gap: number }} options
 *   `top` is where the scale ends unless a reading is higher, `gap` (ms) what breaks the line
 */
export function overTime(points, { what, format, top, from, to, gap }) {
  const [width, height, left, bottom] = [420, 130, 50, 20];
  const most = Math.max(...points.map((point) => point.max));
  const highest = most <= top ? top : nice(most);
  const x = (at) => left + ((at - from) / (to - from || 1)) * (width - left - 8);
  const y = (value) => 8 + (1 - value / highest) * (height - bottom - 8);
  const runs = [];
  for (const point of points) {
    const last = runs.at(-1)?.at(-1);
    if (last && point.at - last.at <= gap) runs.at(-1).push(point);
    else runs.push([point]);
  }
  const line = (run, key) =>
    run
      .map((point, index) => `${index ? "L" : "M"}${x(point.at).toFixed(1)} ${y(point[key]).toFixed(1)}`)
      .join("");
  const latest = points.at(-1);
  const said = latest ? `${what}: ${format(latest.mean)} at the end, ${format(most)} at the highest` : what;
  return s(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, class: "plot", role: "img", "aria-label": said },
    [0, 0.5, 1].map((each) => [
      s("line", {
        x1: left,
        x2: width - 8,
        y1: y(each * highest),
        y2: y(each * highest),
        class: "gridline",
      }),
      s("text", { x: left - 6, y: y(each * highest) + 4, class: "scale end" }, format(each * highest)),
    ]),
    runs.map((run) => [
      s("path", { d: `${line(run, "max")}${back(run, x, y)}`, class: "between" }),
      s("path", { d: line(run, "mean"), class: "mean" }),
      run.length === 1 && s("circle", { cx: x(run[0].at), cy: y(run[0].mean), r: 2.5, class: "dot" }),
    ]),
    ticks(from, to).map((tick) =>
      s("text", { x: x(tick.at), y: height - 4, class: "scale middle" }, tick.label),
    ),
  );
}

function back(run, x, y) {
  return (
    [...run]
      .reverse()
      .map((point) => `L${x(point.at).toFixed(1)} ${y(point.mean).toFixed(1)}`)
      .join("") + "Z"
  );
}

function ticks(from, to) {
  const long = to - from > 3 * 86_400_000;
  const format = new Intl.DateTimeFormat(
    undefined,
    long ? { day: "numeric", month: "short" } : { hour: "2-digit", minute: "2-digit", hour12: false },
  );
  return [0.1, 0.37, 0.63, 0.9].map((each) => {
    const at = from + each * (to - from);
    return { at, label: format.format(new Date(at)) };
  });
}

function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((each) => each * power).find((each) => each >= value);
}
