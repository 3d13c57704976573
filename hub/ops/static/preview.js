// What the hub says would happen.

import { h } from "./dom.js";
import { count, number, words } from "./format.js";

/** Returns what a dry run of a verb answered, in words. */
export function shown(name, found) {
  if (found.refused_by) {
    return [
      h("p", { class: "refused" }, h("b", {}, "The hub would refuse: "), found.detail),
      h(
        "p",
        { class: "note" },
        `rule ${found.refused_by}`,
        found.policies?.length > 1 && ` and ${found.policies.length - 1} more policies`,
      ),
    ];
  }
  return name === "promote" ? whoMoves(found) : whomItConcerns(name, found);
}

function whoMoves(found) {
  const moving = found.by_reason.eligible ?? 0;
  const others = Object.entries(found.by_reason).filter(([reason]) => reason !== "eligible");
  return [
    h(
      "p",
      {},
      h("span", { class: "big", "data-moving": moving }, number(moving)),
      `of ${count(found.devices, "device")} would start now.`,
    ),
    others.length > 0 &&
      h(
        "ul",
        { class: "legend small" },
        others.map(([reason, devices]) => h("li", {}, `${words(reason)} `, h("b", {}, number(devices)))),
      ),
    names(found),
  ];
}

function whomItConcerns(name, found) {
  const text = {
    pause: "would not start; what has begun finishes.",
    resume: "may start.",
    rollback: "run it and would go back.",
  }[name];
  return [
    h(
      "p",
      {},
      h("span", { class: "big", "data-moving": found.devices }, number(found.devices)),
      `${found.devices === 1 ? "device" : "devices"} ${text}`,
    ),
    found.in_progress > 0 &&
      h("p", { class: "note" }, `${count(found.in_progress, "device")} in the middle of it.`),
    names(found),
  ];
}

function names(found) {
  if (!found.would_move.length) return null;
  return h(
    "details",
    { "data-key": "who" },
    h("summary", {}, "Who"),
    h(
      "p",
      { class: "note" },
      found.would_move.join(", "),
      found.more > 0 && ` and ${number(found.more)} more`,
    ),
  );
}
