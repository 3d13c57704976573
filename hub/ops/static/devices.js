// Every device as a cell, with filters and a search; below it those that match, by name.

import { h, put } from "./dom.js";
import { CONDITIONS } from "./conditions.js";
import { deviceView } from "./device.js";
import { huesOf, legend, pick, table } from "./deviceparts.js";
import { count, number } from "./format.js";
import { grid } from "./grid.js";
import { id } from "./api.js";
import { unhurried } from "./pace.js";
import { Inventory, MOST } from "./inventory.js";

/** How soon the whole inventory may be asked for again (ms), and how many times as long as an answer took. */
const PAUSE_MS = 2_500;
const SHARE = 10;

/** Returns the view of all devices, or of the one that the address names. */
export function devicesView(context) {
  if (context.args[0]) return deviceView({ ...context, device: context.args[0] });
  const { api, fleet, query } = context;
  const roles = [...new Set(fleet.overview.groups.map((group) => group.role))];
  const state = {
    role: query.get("role") ?? "",
    segment: query.get("segment") ?? "",
    condition: query.get("condition") ?? "",
    text: query.get("q") ?? "",
    colours: "condition",
  };
  const abort = new AbortController();
  const summary = h("p", { class: "note", "aria-live": "polite", id: "device-count" });
  const pointed = h("p", { class: "pointed", "aria-hidden": "true" });
  const cells = h("div", { class: "card cells" }, h("p", { class: "empty" }, "Loading…"));
  const list = h("section", { class: "card", "aria-label": "Devices that match" });
  let inventory = null;
  let asked = 0;
  const places = new Map();
  let canvases = [];

  const show = () => {
    if (!inventory) return;
    const groups = inventory.select(state);
    const total = groups.reduce((sum, group) => sum + group.indices.length, 0);
    summary.textContent = `${count(total, "device")} of ${number(inventory.ids.length)}${inventory.isWhole ? "" : ` (the first ${number(MOST)}; filter by role and segment)`}`;
    const hues = state.colours === "release" ? huesOf(inventory) : null;
    canvases = groups.map((group) => ({
      group,
      ...grid(inventory, group.indices, {
        key: `grid-${group.role}/${group.segment}`,
        places,
        label: `${count(group.indices.length, "device")} of ${group.role} in ${group.segment}; arrow keys go through them, Enter opens one`,
        hues,
        chosen: (device) => (location.hash = `#/devices/${id(device)}`),
        pointed: (text) => (pointed.textContent = text),
      }),
    }));
    put(
      cells,
      legend(hues),
      pointed,
      total === 0 && h("p", { class: "empty" }, "No device matches."),
      canvases.map(({ group, canvas }) =>
        h(
          "div",
          { class: "group" },
          h(
            "h2",
            {},
            `${group.role} · ${group.segment} `,
            h("span", { class: "note" }, number(group.indices.length)),
          ),
          canvas,
        ),
      ),
    );
    draw();
    put(list, table(inventory, groups, total));
  };
  const draw = () => canvases.forEach((each) => each.draw());
  const load = async () => {
    const mine = ++asked;
    try {
      const found = await Inventory.load(api, state, abort.signal);
      // A slow answer to a former choice of role or segment.
      if (mine !== asked) return;
      inventory = found;
      show();
    } catch (error) {
      if (error.name !== "AbortError" && !inventory) put(cells, h("p", { class: "error" }, error.message));
    }
  };
  const loader = unhurried(load, PAUSE_MS, SHARE);
  const change = (name, reload) => (event) => {
    state[name] = event.target.value;
    const kept = new URLSearchParams(
      Object.entries({
        role: state.role,
        segment: state.segment,
        condition: state.condition,
        q: state.text,
      }).filter(([, value]) => value),
    );
    history.replaceState(null, "", `#/devices${kept.size ? `?${kept}` : ""}`);
    if (reload) load();
    else show();
  };
  const picks = h(
    "form",
    { class: "filters", role: "search", on: { submit: (event) => event.preventDefault() } },
    h(
      "label",
      {},
      "Search",
      h("input", {
        type: "search",
        id: "search",
        value: state.text,
        placeholder: "id or release",
        on: { input: change("text") },
      }),
    ),
    pick(
      "Condition",
      "condition",
      [
        ["", "any"],
        ["trouble", "any trouble"],
        ...Object.entries(CONDITIONS).map(([name, { label }]) => [name, label]),
      ],
      state,
      change("condition"),
    ),
    pick("Role", "role", [["", "all"], ...roles.map((role) => [role, role])], state, change("role", true)),
    pick(
      "Segment",
      "segment",
      [["", "all"], ...["canary", "early", "general"].map((name) => [name, name])],
      state,
      change("segment", true),
    ),
    pick(
      "Colour by",
      "colours",
      [
        ["condition", "condition"],
        ["release", "running release"],
      ],
      state,
      change("colours"),
    ),
  );
  const element = h(
    "div",
    { class: "stack" },
    h("div", { class: "head" }, h("h1", {}, "Devices"), summary),
    picks,
    cells,
    list,
  );
  const resized = new ResizeObserver(draw);
  resized.observe(cells);
  fleet.addEventListener("change", loader);
  document.addEventListener("theme", draw);
  load();
  return {
    element,
    title: "Devices",
    close: () => {
      abort.abort();
      resized.disconnect();
      fleet.removeEventListener("change", loader);
      document.removeEventListener("theme", draw);
    },
  };
}
