// The log of events: who did what, newest first, by device, release, actor or kind.

import { h, put } from "./dom.js";
import { count, moment, words } from "./format.js";
import { id } from "./api.js";

const PAGE = 100;
const FILTERS = [
  ["deviceId", "Device"],
  ["releaseId", "Release"],
  ["actor", "Who"],
  ["kind", "Kind"],
];

/** Returns the view; its filters stand in the address. */
export function auditView({ api, fleet, query }) {
  const filters = Object.fromEntries(FILTERS.map(([name]) => [name, query.get(name) ?? ""]));
  const list = h("div", { class: "card" }, h("p", { class: "empty" }, "Loading…"));
  const newer = h("button", { type: "button", hidden: true, id: "newer", on: { click: () => load() } });
  let items = [];
  let cursor = null;
  let asked = 0;
  let missed = 0;
  const load = async (more = false) => {
    const mine = ++asked;
    try {
      const page = await api.get("audits", { ...filters, limit: PAGE, cursor: more ? cursor : null });
      if (mine !== asked) return;
      items = more ? [...items, ...page.items] : page.items;
      cursor = page.next_cursor;
      if (!more) missed = 0;
      newer.hidden = true;
      put(
        list,
        table(items),
        cursor !== null &&
          h("button", { type: "button", "data-key": "older", on: { click: () => load(true) } }, "Older"),
      );
    } catch (error) {
      if (mine === asked) put(list, h("p", { class: "error" }, error.message));
    }
  };
  // A list that moves while somebody reads it is no help: what is new waits for them.
  const told = () => {
    missed += 1;
    newer.textContent = `Show ${count(missed, "newer event")}`;
    newer.hidden = false;
  };
  const submit = (event) => {
    event.preventDefault();
    for (const [name, value] of new FormData(event.target)) filters[name] = value.trim();
    const kept = new URLSearchParams(Object.entries(filters).filter(([, value]) => value));
    history.replaceState(null, "", `#/audit${kept.size ? `?${kept}` : ""}`);
    load();
  };
  const form = h(
    "form",
    { class: "filters", role: "search", on: { submit } },
    FILTERS.map(([name, label]) =>
      h(
        "label",
        {},
        label,
        h("input", { name, value: filters[name], autocomplete: "off", spellcheck: "false" }),
      ),
    ),
    h("button", { type: "submit", class: "main" }, "Filter"),
  );
  fleet.addEventListener("event", told);
  load();
  return {
    element: h("div", {}, h("div", { class: "head" }, h("h1", {}, "Audit"), newer), form, list),
    title: "Audit",
    close: () => fleet.removeEventListener("event", told),
  };
}

function table(items) {
  if (!items.length) return h("p", { class: "empty" }, "No event matches.");
  return h(
    "div",
    { class: "wide" },
    h(
      "table",
      { class: "audit cards" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ["When", "What", "On", "Who", "Why, and what else"].map((name) => h("th", { scope: "col" }, name)),
        ),
      ),
      h(
        "tbody",
        {},
        items.map((event) =>
          h(
            "tr",
            { "data-n": event.n },
            h(
              "td",
              {},
              h("time", { datetime: event.at, title: event.at }, moment(event.at)),
              h("div", { class: "note" }, `#${event.n}`),
            ),
            h("td", {}, words(event.kind).replace(".", " ")),
            h(
              "td",
              {},
              event.device_id &&
                h("div", {}, h("a", { href: `#/devices/${id(event.device_id)}` }, event.device_id)),
              event.release_id &&
                h("div", {}, h("a", { href: `#/rollouts/${id(event.release_id)}` }, event.release_id)),
              !event.device_id && !event.release_id && (event.role ?? "–"),
            ),
            h("td", {}, event.actor),
            h(
              "td",
              {},
              event.reason,
              Object.keys(event.body).length > 0 &&
                h(
                  "details",
                  { "data-key": `body-${event.n}` },
                  h("summary", {}, "details"),
                  h("pre", {}, JSON.stringify(event.body, null, 1)),
                ),
            ),
          ),
        ),
      ),
    ),
  );
}
