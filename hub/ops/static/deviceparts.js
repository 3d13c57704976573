// What stands around the grid of devices: pickers, what colours mean, and the first that match by name.

import { id } from "./api.js";
import { badge, CONDITIONS } from "./conditions.js";
import { h } from "./dom.js";
import { number } from "./format.js";

const LISTED = 40;
const HUES = ["#2f7de1", "#e07b2f", "#3fa66b", "#b0519e", "#c9a50c", "#3aa6b9", "#d2505a", "#7d6bd0"];

/** A labelled choice; `options` are pairs of value and text. */
export function pick(label, name, options, state, listener) {
  return h(
    "label",
    {},
    label,
    h(
      "select",
      { name, id: `pick-${name}`, on: { change: listener } },
      options.map(([value, text]) => h("option", { value, selected: value === state[name] }, text)),
    ),
  );
}

/** A colour and a letter for each release that devices run. */
export function huesOf(inventory) {
  const releases = [...new Set(inventory.releases)].filter(Boolean).sort();
  return new Map(
    releases.map((release, at) => [
      release,
      { hue: HUES[at % HUES.length], letter: String.fromCharCode(65 + (at % 26)) },
    ]),
  );
}

/** What colours mean. */
export function legend(hues) {
  const entries = hues
    ? [...hues].map(([release, { hue, letter }]) =>
        h("li", {}, h("i", { class: "swatch", style: { background: hue } }), `${letter} ${release}`),
      )
    : Object.keys(CONDITIONS).map((name) => h("li", {}, badge(name)));
  return h("ul", { class: "legend small" }, entries);
}

/** The first devices that match, with links. */
export function table(inventory, groups, total) {
  const rows = groups
    .flatMap((group) => group.indices.slice(0, LISTED).map((at) => ({ at, group })))
    .slice(0, LISTED);
  if (!rows.length) return h("p", { class: "empty" }, "Nothing to list.");
  return [
    h(
      "div",
      { class: "wide" },
      h(
        "table",
        { class: "cards short" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            ["Device", "Condition", "Role", "Segment", "Running"].map((name) =>
              h("th", { scope: "col" }, name),
            ),
          ),
        ),
        h(
          "tbody",
          {},
          rows.map(({ at, group }) =>
            h(
              "tr",
              {},
              h("td", {}, h("a", { href: `#/devices/${id(inventory.ids[at])}` }, inventory.ids[at])),
              h("td", {}, badge(inventory.conditions[at])),
              h("td", {}, group.role),
              h("td", {}, group.segment),
              h("td", {}, inventory.releases[at] ?? "–"),
            ),
          ),
        ),
      ),
    ),
    total > rows.length &&
      h("p", { class: "note" }, `and ${number(total - rows.length)} more; search to narrow them down.`),
  ];
}
