// The tables of the compliance report.

import { h } from "./dom.js";
import { id } from "./api.js";
import { number, title, words } from "./format.js";

/** What a device may be found with, in the order of the report. */
export const FINDINGS = [
  "agents_below",
  "drifted",
  "safe_mode",
  "quarantined",
  "silent",
  "certificates_expiring",
];

/** A table that may be wider than the screen, of heads and of rows of cells. */
function table(heads, rows) {
  return h(
    "div",
    { class: "wide" },
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, heads)),
      h(
        "tbody",
        {},
        rows.map((cells) => h("tr", {}, cells)),
      ),
    ),
  );
}

/** Counts by role, segment and site. */
export function groups(rows) {
  return h(
    "section",
    { class: "card", "aria-labelledby": "groups-title" },
    h("h2", { id: "groups-title" }, "By role, segment and site"),
    rows.length
      ? table(
          [
            ...["Role", "Segment", "Site"].map((name) => h("th", { scope: "col" }, name)),
            ...["devices", ...FINDINGS].map((name) =>
              h("th", { scope: "col", class: "number" }, title(name)),
            ),
          ],
          rows.map((row) => [
            h("td", {}, row.role),
            h("td", {}, row.segment),
            h("td", {}, row.site || "–"),
            ...["devices", ...FINDINGS].map((name) =>
              h(
                "td",
                { class: row[name] && name !== "devices" ? "number found" : "number" },
                number(row[name]),
              ),
            ),
          ]),
        )
      : h("p", { class: "empty" }, "No devices."),
  );
}

/** Devices with findings, by name. */
export function devices({ items, more }) {
  return h(
    "section",
    { class: "card", "aria-labelledby": "found-title" },
    h("h2", { id: "found-title" }, "Devices with findings"),
    items.length
      ? table(
          ["Device", "Role", "Segment", "Agent", "Findings"].map((name) =>
            h("th", { scope: "col" }, name),
          ),
          items
            .slice(0, 100)
            .map((row) => [
              h("td", {}, h("a", { href: `#/devices/${id(row.device_id)}` }, row.device_id)),
              h("td", {}, row.role),
              h("td", {}, row.segment),
              h("td", {}, row.agent || "–"),
              h("td", {}, row.findings.map(words).join(", ")),
            ]),
        )
      : h("p", { class: "empty good" }, "None."),
    items.length + more > 100 &&
      h(
        "p",
        { class: "note" },
        `and ${number(items.length + more - 100)} more; the CSV names up to a thousand.`,
      ),
  );
}

/** A short list under a name. */
export function small(name, pairs) {
  return h(
    "section",
    { class: "card" },
    h("h2", {}, name),
    pairs.length
      ? h(
          "dl",
          { class: "facts" },
          pairs.map(([key, value]) => [h("dt", {}, key), h("dd", {}, value)]),
        )
      : h("p", { class: "empty" }, "None."),
  );
}
