// Load, memory, disk and temperature of a device over time.

import { overTime } from "./charts.js";
import { h } from "./dom.js";

const SPANS = {
  "5m": { label: "10 hours", ms: 36e6, gap: 9e5 },
  "1h": { label: "4 days", ms: 3456e5, gap: 9e6 },
  "1d": { label: "3 months", ms: 7776e6, gap: 2e8 },
};
const percent = (value) => `${Math.round(100 * value)}%`;
const PROBES = [
  ["cpu_load", "Load", percent, 1],
  ["memory_used", "Memory", percent, 1],
  ["disk_used", "Disk", percent, 1],
  ["temperature", "Temperature", (value) => `${Math.round(value)} °C`, 100],
];

/**
 * Returns the plots of a page of rollups, and the choice of how far back.
 * @param {(tier: string) => void} choose
 */
export function probesOf(items, tier, choose) {
  const end = Date.parse(items[0]?.start ?? new Date().toISOString()) + (items[0]?.seconds ?? 0) * 1000;
  const begin = Math.max(end - SPANS[tier].ms, Math.min(Date.parse(items.at(-1)?.start ?? 0), end - 1));
  const plots = PROBES.map(([name, label, format, top]) => {
    const points = items
      .filter((item) => item[name])
      .map((item) => ({ at: Date.parse(item.start), ...item[name] }))
      .filter((point) => point.at >= begin)
      .reverse();
    return (
      points.length > 0 &&
      h(
        "figure",
        {},
        h("figcaption", {}, label, " ", h("b", {}, format(points.at(-1).mean))),
        overTime(points, { what: label, format, top, from: begin, to: end, gap: SPANS[tier].gap }),
      )
    );
  }).filter(Boolean);
  return [
    h(
      "div",
      { class: "head" },
      h("h2", { id: "probes-title" }, "Probes"),
      h(
        "div",
        { class: "actions", role: "group", "aria-label": "How far back" },
        Object.entries(SPANS).map(([name, { label }]) =>
          h(
            "button",
            {
              type: "button",
              "data-key": `tier-${name}`,
              "aria-pressed": String(name === tier),
              on: { click: () => choose(name) },
            },
            label,
          ),
        ),
      ),
    ),
    plots.length
      ? h("div", { class: "plots" }, plots)
      : h("p", { class: "empty" }, "No readings in this time."),
  ];
}
