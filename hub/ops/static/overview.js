// The fleet at a glance.

import { draw, h } from "./dom.js";
import { badge, CONDITIONS, sign } from "./conditions.js";
import { ring, stacked } from "./charts.js";
import { line } from "./events.js";
import { count, number, part, share, words } from "./format.js";
import { id } from "./api.js";

const TILES = ["online", "sleeping", "silent", "drifted", "safe_mode", "quarantined"];

/** Returns the view, which counts along with the fleet. */
export function overviewView({ fleet }) {
  const whole = h("section", { class: "card whole", "aria-label": "All devices" });
  const alerts = h("section", { class: "card alerts", "aria-labelledby": "alerts-title" });
  const underway = h("section", { class: "card", "aria-labelledby": "underway-title" });
  const roles = h("section", { class: "roles", "aria-label": "By role and segment" });
  const recent = h("section", { class: "card recent", "aria-labelledby": "recent-title" });
  const element = h(
    "div",
    { class: "overview" },
    h("h1", { class: "sr-only" }, "Overview"),
    whole,
    h(
      "div",
      { class: "columns" },
      h("div", { class: "stack" }, underway, roles),
      h("div", { class: "stack" }, alerts, recent),
    ),
  );
  const show = () => {
    const { overview, alerts: wrong, recent: events } = fleet;
    if (!overview) return;
    const { groups, releases } = overview;
    draw(whole, groups, () => figures(fleet));
    draw(alerts, wrong, () => [h("h2", { id: "alerts-title" }, "Alerts"), alertList(wrong)]);
    draw(underway, releases, () => [h("h2", { id: "underway-title" }, "Under way"), rollouts(releases)]);
    draw(roles, [groups, releases], () => roleCards(fleet));
    draw(recent, events, () => [h("h2", { id: "recent-title" }, "Just now"), recentList(events)]);
  };
  fleet.addEventListener("change", show);
  show();
  return { element, title: "Overview", close: () => fleet.removeEventListener("change", show) };
}

function figures(fleet) {
  const devices = fleet.sum("devices");
  const parts = Object.entries(CONDITIONS).map(([name, { label }]) => ({
    name,
    label,
    value: fleet.sum("conditions", name),
  }));
  return [
    ring(parts, number(devices), devices === 1 ? "device" : "devices"),
    h(
      "ul",
      { class: "tiles" },
      TILES.map((name) => tile(name, counted(fleet, name), devices)),
    ),
    h(
      "div",
      { class: "legend-of-ring" },
      h("p", { class: "note" }, "Each device once, by the worst that holds for it"),
      h(
        "ul",
        { class: "legend" },
        parts
          .filter((each) => each.value)
          .map((each) =>
            h(
              "li",
              {},
              h("a", { href: `#/devices?condition=${each.name}` }, badge(each.name)),
              " ",
              h("b", {}, number(each.value)),
            ),
          ),
      ),
    ),
  ];
}

function counted(fleet, name) {
  return fleet.sum(name in (fleet.overview.groups[0]?.findings ?? {}) ? "findings" : "presence", name);
}

function tile(name, value, devices) {
  const calm = name === "online" || name === "sleeping" || !value;
  return h(
    "li",
    { class: calm ? "tile" : "tile loud", "data-count": name },
    h(
      "a",
      { href: `#/devices?condition=${name}` },
      h("span", { class: "tile-name" }, sign(name), CONDITIONS[name].label),
      h("b", {}, number(value)),
      h(
        "span",
        { class: "note" },
        devices ? `${part(value, devices)} · ${CONDITIONS[name].help}` : CONDITIONS[name].help,
      ),
    ),
  );
}

function alertList(alerts) {
  if (!alerts.length) return h("p", { class: "empty good" }, "Nothing is wrong that the hub knows of.");
  return h(
    "ul",
    { class: "alert-list" },
    alerts.map((alert) =>
      h(
        "li",
        {},
        h("b", {}, words(alert.kind)),
        h(
          "span",
          {},
          alert.kind === "rollout_halted"
            ? h("a", { href: `#/rollouts/${id(alert.subject)}` }, alert.text)
            : alert.text,
        ),
      ),
    ),
  );
}

function rollouts(releases) {
  const found = releases.filter((release) => ["rolling", "paused", "halted"].includes(release.state));
  if (!found.length)
    return h(
      "p",
      { class: "empty" },
      "No rollout is under way. ",
      h("a", { href: "#/rollouts" }, "All releases"),
    );
  return h(
    "ul",
    { class: "underway" },
    found.map((release) =>
      h(
        "li",
        {},
        h(
          "a",
          { href: `#/rollouts/${id(release.id)}` },
          h("b", {}, `${release.role} ${release.version}`),
          h("span", { class: `state s-${release.state}` }, release.state),
          h("span", { class: "note" }, `${share(release.basis_points)} of ${release.segment}`),
        ),
        release.reason && h("p", { class: "note" }, release.reason),
      ),
    ),
  );
}

function roleCards(fleet) {
  const roles = Map.groupBy(fleet.overview.groups, (group) => group.role);
  if (!roles.size) {
    return h(
      "div",
      { class: "card" },
      h("h2", {}, "No devices yet"),
      h(
        "p",
        { class: "empty" },
        "Make an enrolment token with flaghoist device token, and enrol the first with flaghoist-edge enrol.",
      ),
    );
  }
  return [...roles].map(([role, groups]) =>
    h(
      "article",
      { class: "card role" },
      h(
        "h2",
        {},
        role,
        " ",
        h("span", { class: "note" }, count(fleet.sum("devices", undefined, groups), "device")),
      ),
      h(
        "div",
        { class: "segments" },
        groups.map((group) => segment(fleet, group)),
      ),
    ),
  );
}

function segment(fleet, group) {
  const parts = Object.entries(CONDITIONS).map(([name, { label }]) => ({
    name,
    label,
    value: group.conditions[name],
  }));
  const candidate = fleet.release(group.candidate);
  const where = `#/devices?role=${id(group.role)}&segment=${id(group.segment)}`;
  return h(
    "div",
    { class: "segment", "data-group": `${group.role}/${group.segment}` },
    h("h3", {}, h("a", { href: where }, group.segment), " ", h("b", {}, number(group.devices))),
    group.devices
      ? stacked(parts, `${group.role} ${group.segment}`)
      : h("p", { class: "note" }, "no devices"),
    h(
      "ul",
      { class: "legend small" },
      parts
        .filter((each) => each.value && each.name !== "online")
        .map((each) => h("li", {}, badge(each.name), " ", h("b", {}, number(each.value)))),
    ),
    h(
      "p",
      { class: "note" },
      group.stable ? `stable ${fleet.release(group.stable)?.version ?? group.stable}` : "no stable release",
      candidate && [
        " · offered ",
        h("a", { href: `#/rollouts/${id(candidate.id)}` }, candidate.version),
        ` to ${share(candidate.segment === group.segment ? candidate.basis_points : 10_000)}`,
        group.paused && " (paused)",
      ],
    ),
  );
}

function recentList(events) {
  if (!events.length) return h("p", { class: "empty" }, "Nothing has happened yet.");
  return h(
    "ol",
    { class: "events" },
    events.slice(0, 12).map((event) => line(event)),
  );
}
