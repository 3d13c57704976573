// Conditions of devices: their order, names and signs. A sign has a shape of its own, so that nobody needs the colour.

import { h, s } from "./dom.js";

/** Worst first, as the hub orders them. */
export const CONDITIONS = {
  quarantined: { label: "Quarantined", help: "held back until somebody lets them go" },
  safe_mode: { label: "Safe mode", help: "running the minimal stack only" },
  drifted: { label: "Drifted", help: "differing from what was released" },
  failing: { label: "Failing", help: "reporting that their service fails" },
  silent: { label: "Silent", help: "three heartbeats missed" },
  offline: { label: "Offline", help: "disconnected" },
  unknown: { label: "Never heard", help: "registered, and nothing since" },
  degraded: { label: "Degraded", help: "reporting a problem, working on" },
  sleeping: { label: "Sleeping", help: "asleep until an announced time" },
  online: { label: "Online", help: "heard, and well" },
};

const SHAPES = {
  quarantined: () => [s("path", { d: "M2 2l8 8M10 2l-8 8", class: "line" })],
  safe_mode: () => [s("rect", { x: 2, y: 2, width: 8, height: 8, rx: 1 })],
  drifted: () => [s("path", { d: "M6 .8 11.2 6 6 11.2 .8 6z" })],
  failing: () => [s("path", { d: "M6 1 11.4 11H.6z" })],
  silent: () => [s("circle", { cx: 6, cy: 6, r: 4, class: "line dashed" })],
  offline: () => [s("circle", { cx: 6, cy: 6, r: 4, class: "line" })],
  unknown: () => [s("circle", { cx: 6, cy: 6, r: 2 })],
  degraded: () => [
    s("path", { d: "M6 1a5 5 0 0 1 0 10z" }),
    s("circle", { cx: 6, cy: 6, r: 4.3, class: "line thin" }),
  ],
  sleeping: () => [s("path", { d: "M9.6 8.2A4.7 4.7 0 0 1 4 2a4.7 4.7 0 1 0 5.6 6.2z" })],
  online: () => [s("circle", { cx: 6, cy: 6, r: 4.6 })],
};

/** Returns the sign of a condition, for beside its name. */
export function sign(name) {
  return s("svg", { viewBox: "0 0 12 12", class: `sign c-${name}`, "aria-hidden": "true" }, SHAPES[name]?.());
}

/** Returns the sign and the name of a condition. */
export const badge = (name) => h("span", { class: "badge" }, sign(name), CONDITIONS[name]?.label ?? name);

/** The condition in which the hub shows a device, from what `GET /devices/{id}` says; as `hub/ops/conditions.py`. */
export function conditionOf(device, isDrifted) {
  if (device.quarantine) return "quarantined";
  if (device.safe_mode === "on") return "safe_mode";
  if (isDrifted) return "drifted";
  if (device.presence === "offline" || device.presence === "unknown") return device.presence;
  return ["failing", "degraded"].includes(device.health) ? device.health : device.presence;
}
