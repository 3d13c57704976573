// One device: what it is, how it fares, what happened to it, and what can be done about it.

import { draw, h, put, say } from "./dom.js";
import { badge, conditionOf } from "./conditions.js";
import { commands, facts, timelineOf, troubles, update } from "./devicecards.js";
import { orders } from "./orders.js";
import { oneByOne } from "./pace.js";
import { probesOf } from "./probes.js";
import { id } from "./api.js";

/** Returns the view of a device, which is asked for anew at each of its events and every 15 s. */
export function deviceView({ api, fleet, device }) {
  const path = `devices/${id(device)}`;
  const head = h("div", { class: "head" }, h("h1", {}, device));
  const body = h("div", { class: "stack" }, h("p", { class: "empty" }, "Loading…"));
  const probes = h("section", { class: "card", "aria-labelledby": "probes-title" });
  const timeline = h("section", { class: "card", "aria-labelledby": "timeline-title" });
  const state = { tier: "5m", kind: "" };
  let isShown = false;

  const loadProbes = async () => {
    const found = await api.get(`telemetry/devices/${id(device)}/rollups`, {
      tier: state.tier,
      limit: 120,
    });
    put(
      probes,
      probesOf(found.items, state.tier, (tier) => {
        state.tier = tier;
        loadProbes().catch((error) => say(error.message));
      }),
    );
  };
  const loadTimeline = async () => {
    const found = await api.get(`${path}/timeline`, { kind: state.kind, limit: 40 });
    put(
      timeline,
      timelineOf(found.items, state.kind, (kind) => {
        state.kind = kind;
        loadTimeline().catch((error) => say(error.message));
      }),
    );
  };
  const load = oneByOne(async () => {
    try {
      const [found, trouble, drifts] = await Promise.all([
        api.get(path),
        api.get(`recovery/${id(device)}`),
        api.get(`${path}/timeline`, { kind: "drift", limit: 1 }),
      ]);
      const candidate = fleet.overview.groups.find(
        (group) => group.role === found.role && group.segment === found.segment,
      )?.candidate;
      const verdict =
        candidate && (await api.get(`releases/${id(candidate)}/eligibility/${id(device)}`).catch(() => null));
      const drift = drifts.items[0]?.detail;
      const condition = conditionOf(found, drift?.items?.length > 0 && !drift.repaired);
      const { role } = fleet.caller;
      draw(
        head,
        [condition, trouble.quarantine, trouble.in_safe_mode, trouble.redeploy, found.revoked, role],
        () => [h("h1", {}, device), badge(condition), orders({ api, role, found, trouble, done: load })],
      );
      put(
        body,
        h("div", { class: "thirds" }, facts(found), update(found, verdict), troubles(found, trouble, drift)),
        probes,
        h("div", { class: "halves" }, timeline, commands(trouble.commands)),
      );
      if (!isShown) probes.replaceChildren(h("p", { class: "empty" }, "Loading…"));
      isShown = true;
      await Promise.all([loadProbes(), loadTimeline()]);
    } catch (error) {
      if (!isShown)
        put(body, h("p", { class: "error" }, error.message), h("a", { href: "#/devices" }, "All devices"));
    }
  });
  const changed = ({ detail }) => detail.device_id === device && load();
  fleet.addEventListener("event", changed);
  const timer = setInterval(load, 15_000);
  load();
  return {
    element: h("div", {}, head, body),
    title: device,
    close: () => {
      clearInterval(timer);
      fleet.removeEventListener("event", changed);
    },
  };
}
