// One device: what it is, how it fares, what happened to it, and what can be done about it.

import { h, put } from "./dom.js";
import { badge, conditionOf } from "./conditions.js";
import { overTime } from "./charts.js";
import { orders } from "./orders.js";
import { ago, clock, moment, words } from "./format.js";
import { id } from "./api.js";

const SPANS = { "5m": { label: "10 hours", ms: 36e6, gap: 9e5 }, "1h": { label: "4 days", ms: 3456e5, gap: 9e6 }, "1d": { label: "3 months", ms: 7776e6, gap: 2e8 } };
const KINDS = ["", "update-result", "drift", "recovery", "command-result", "presence", "release", "audit", "status"];
const percent = (value) => `${Math.round(100 * value)}%`;
const PROBES = [
  ["cpu_load", "Load", percent, 1], ["memory_used", "Memory", percent, 1], ["disk_used", "Disk", percent, 1],
  ["temperature", "Temperature", (value) => `${Math.round(value)} °C`, 100],
];

export function deviceView({ api, fleet, device }) {
  const path = `devices/${id(device)}`;
  const head = h("div", { class: "head" }, h("h1", {}, device));
  const body = h("div", { class: "stack" }, h("p", { class: "empty" }, "Loading…"));
  const probes = h("section", { class: "card", "aria-labelledby": "probes-title" });
  const timeline = h("section", { class: "card", "aria-labelledby": "timeline-title" });
  const state = { tier: "5m", kind: "" };
  let shown = 0;
  let isShown = false;

  const loadProbes = async () => {
    const found = await api.get(`telemetry/devices/${id(device)}/rollups`, { tier: state.tier, limit: 120 });
    put(probes, probesOf(found.items, state.tier, (tier) => { state.tier = tier; loadProbes(); }));
  };
  const loadTimeline = async () => {
    const found = await api.get(`${path}/timeline`, { kind: state.kind, limit: 40 });
    put(timeline, timelineOf(found.items, state.kind, (kind) => { state.kind = kind; loadTimeline(); }));
  };
  const load = async () => {
    const mine = ++shown;
    try {
      const [found, trouble, drifts] = await Promise.all([api.get(path), api.get(`recovery/${id(device)}`), api.get(`${path}/timeline`, { kind: "drift", limit: 1 })]);
      if (mine !== shown) return;
      const candidate = fleet.overview.groups.find((group) => group.role === found.role && group.segment === found.segment)?.candidate;
      const verdict = candidate && (await api.get(`releases/${id(candidate)}/eligibility/${id(device)}`).catch(() => null));
      const drift = drifts.items[0]?.detail;
      put(head, h("h1", {}, device), badge(conditionOf(found, drift?.items?.length > 0 && !drift.repaired)),
        orders({ api, role: fleet.caller.role, device, found, trouble, done: load }));
      put(body, h("div", { class: "thirds" }, facts(found), update(found, verdict), troubles(found, trouble, drift)), probes, h("div", { class: "halves" }, timeline, commands(trouble.commands)));
      if (!isShown) probes.replaceChildren(h("p", { class: "empty" }, "Loading…"));
      isShown = true;
      await Promise.all([loadProbes(), loadTimeline()]);
    } catch (error) {
      if (mine === shown && !isShown) put(body, h("p", { class: "error" }, error.message), h("a", { href: "#/devices" }, "All devices"));
    }
  };
  const changed = ({ detail }) => detail.device_id === device && load();
  fleet.addEventListener("event", changed);
  const timer = setInterval(load, 15_000);
  load();
  return {
    element: h("div", {}, head, body), title: device,
    close: () => {
      clearInterval(timer);
      fleet.removeEventListener("event", changed);
    },
  };
}

function list(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

function facts(found) {
  return h("section", { class: "card", "aria-labelledby": "facts-title" }, h("h2", { id: "facts-title" }, "Device"), list([
    ["Role", found.role], ["Segment", found.segment], ["Site", found.site], ["Hardware", found.hardware], ["Serial", found.serial], ["Owner", found.owner],
    ["Where", found.geolocation], ["Presence", `${found.presence}, last seen ${ago(found.last_seen)}`], ["Health", found.health], ["Agent", found.agent_version],
    ["Heartbeat", `every ${found.update_interval} s`], ["Certificate", `until ${moment(found.certificate_not_after)}`], ["Registered", moment(found.created_at)],
    ["Tags", Object.entries(found.tags).map(([key, value]) => `${key}=${value}`).join(", ")],
  ]));
}

function update(found, verdict) {
  return h("section", { class: "card", "aria-labelledby": "update-title" }, h("h2", { id: "update-title" }, "Release"), list([
    ["Runs", found.running ? h("a", { href: `#/rollouts/${id(found.running)}` }, found.running) : "none of ours"],
    ["Last attempt", found.attempt && `${found.attempt.release}: ${words(found.attempt.state)}`],
    ["It says", found.verdict && `${words(found.verdict.reason)}${found.verdict.release ? ` (${found.verdict.release})` : ""}`],
    ["On offer", verdict && h("span", {}, h("a", { href: `#/rollouts/${id(verdict.release)}` }, verdict.release), `: ${words(verdict.reason)}`, verdict.detail && h("div", { class: "note" }, verdict.detail))],
    ["Bucket", verdict && `${verdict.bucket} of 10,000`], ["Locked to", found.version_lock], ["Maintenance", found.maintenance ? "yes" : ""],
  ]));
}

function troubles(found, trouble, drift) {
  const differs = drift?.items?.length > 0 && !drift.repaired;
  const failed = (trouble.diagnostics?.checks ?? []).filter((check) => check.verdict !== "ok");
  const isCalm = !trouble.quarantine && !trouble.in_safe_mode && found.safe_mode !== "on" && !differs && !failed.length;
  return h("section", { class: "card", "aria-labelledby": "trouble-title" }, h("h2", { id: "trouble-title" }, "Trouble"),
    isCalm && h("p", { class: "empty good" }, "None."), list([
      ["Quarantine", trouble.quarantine && `${words(trouble.quarantine.rule)} by ${trouble.quarantine.by}, ${ago(trouble.quarantine.since)}: ${trouble.quarantine.reason}`],
      ["Safe mode", (trouble.in_safe_mode || found.safe_mode === "on") && (trouble.stays[0]?.reason || "ordered")],
      ["Drift", differs && h("ul", {}, drift.items.slice(0, 12).map((item) => h("li", {}, `${item.path}: ${item.what}`)), drift.items.length > 12 && h("li", {}, `and ${drift.items.length - 12 + (drift.more ?? 0)} more`))],
      ["Diagnostics", trouble.diagnostics && `of ${moment(trouble.diagnostics.at)}`],
    ]),
    failed.length > 0 && h("ul", { class: "alert-list" }, failed.slice(0, 12).map((check) => h("li", {}, h("b", {}, `${check.name}: ${check.verdict}`), check.detail))));
}

function probesOf(items, tier, choose) {
  const end = Date.parse(items[0]?.start ?? new Date().toISOString()) + (items[0]?.seconds ?? 0) * 1000;
  const begin = Math.max(end - SPANS[tier].ms, Math.min(Date.parse(items.at(-1)?.start ?? 0), end - 1));
  const plots = PROBES.map(([name, label, format, top]) => {
    const points = items.filter((item) => item[name]).map((item) => ({ at: Date.parse(item.start), ...item[name] })).filter((point) => point.at >= begin).reverse();
    return points.length > 0 && h("figure", {}, h("figcaption", {}, label, " ", h("b", {}, format(points.at(-1).mean))), overTime(points, { what: label, format, top, from: begin, to: end, gap: SPANS[tier].gap }));
  }).filter(Boolean);
  return [
    h("div", { class: "head" }, h("h2", { id: "probes-title" }, "Probes"), h("div", { class: "actions", role: "group", "aria-label": "How far back" }, Object.entries(SPANS).map(([name, { label }]) =>
      h("button", { type: "button", "data-key": `tier-${name}`, "aria-pressed": String(name === tier), on: { click: () => choose(name) } }, label)))),
    plots.length ? h("div", { class: "plots" }, plots) : h("p", { class: "empty" }, "No readings in this time."),
  ];
}

function timelineOf(items, kind, choose) {
  return [
    h("div", { class: "head" }, h("h2", { id: "timeline-title" }, "Timeline"), h("select", { "aria-label": "Kind", id: "timeline-kind", on: { change: (event) => choose(event.target.value) } },
      KINDS.map((name) => h("option", { value: name, selected: name === kind }, name ? words(name).replace("-", " ") : "everything")))),
    items.length ? h("ol", { class: "events" }, items.map((item) => h("li", {}, h("time", { datetime: item.at, title: clock(item.at) }, moment(item.at)), h("div", {}, h("b", {}, item.kind.replace("-", " ")), " ", item.text))))
      : h("p", { class: "empty" }, "Nothing of this kind."),
  ];
}

function commands(items) {
  return h("section", { class: "card", "aria-labelledby": "commands-title" }, h("h2", { id: "commands-title" }, "Commands"),
    items.length ? h("ol", { class: "events" }, items.map((item) => h("li", {}, h("time", { datetime: item.created_at }, moment(item.created_at)),
      h("div", {}, h("b", {}, item.kind.replaceAll("-", " ")), ` ${item.state}`, h("div", { class: "note" }, [item.detail, item.reason, `by ${item.created_by}`].filter(Boolean).join(" · "))))))
      : h("p", { class: "empty" }, "None so far."));
}
