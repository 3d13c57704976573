// Whether what was demanded holds: now, and over the last days.

import { h, put, s } from "./dom.js";
import { devices, FINDINGS, groups, small } from "./compliancetables.js";
import { moment, number, title } from "./format.js";

/** Returns the view of the report, which is made when it is opened or asked for again. */
export function complianceView({ api }) {
  const body = h(
    "div",
    { class: "stack" },
    h("p", { class: "empty" }, "Looking through the fleet and its audit…"),
  );
  const load = async () => {
    try {
      const [report, history] = await Promise.all([
        api.get("compliance/report"),
        api.get("compliance/history", { days: 90 }),
      ]);
      put(
        body,
        figures(report),
        past(history.items),
        groups(report.groups),
        devices(report.devices),
        h(
          "div",
          { class: "halves" },
          small(
            "Soon to expire",
            report.expiring.map((each) => [`${each.what} ${each.name}`, moment(each.expires_at)]),
          ),
          small(
            "Exceptions from policies",
            report.exceptions.map((each) => [
              `${each.release_id} by ${each.actor}`,
              `${moment(each.at)} · ${each.reason}`,
            ]),
          ),
        ),
      );
    } catch (error) {
      put(body, h("p", { class: "error" }, error.message));
    }
  };
  // Prints and spreadsheets need what the request carries, so they are fetched here and handed over as files.
  const save = (format, name) => async () => {
    const answer = await api.open(`compliance/report?format=${format}`);
    const url = URL.createObjectURL(await answer.blob());
    h("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  };
  load();
  return {
    element: h(
      "div",
      {},
      h(
        "div",
        { class: "head" },
        h("h1", {}, "Compliance"),
        h(
          "div",
          { class: "actions" },
          h("button", { type: "button", on: { click: load } }, "Look again"),
          h("button", { type: "button", on: { click: save("html", "compliance.html") } }, "Page to print"),
          h("button", { type: "button", on: { click: save("csv", "compliance.csv") } }, "CSV"),
        ),
      ),
      body,
    ),
    title: "Compliance",
    close: () => {},
  };
}

function figures(report) {
  const chain = report.chain;
  return h(
    "section",
    { class: "card", "aria-label": "In figures" },
    h(
      "ul",
      { class: "tiles" },
      h(
        "li",
        { class: "tile" },
        h("div", {}, h("span", { class: "tile-name" }, "Devices"), h("b", {}, number(report.totals.devices))),
      ),
      FINDINGS.map((name) =>
        h(
          "li",
          { class: report.totals[name] ? "tile loud" : "tile", "data-finding": name },
          h(
            "div",
            {},
            h("span", { class: "tile-name" }, title(name)),
            h("b", {}, number(report.totals[name])),
          ),
        ),
      ),
      h(
        "li",
        { class: chain.ok ? "tile" : "tile loud" },
        h(
          "div",
          {},
          h("span", { class: "tile-name" }, "Audit chain"),
          h("b", {}, chain.ok ? "whole" : "broken"),
          h(
            "span",
            { class: "note" },
            chain.ok ? `${number(chain.events)} events` : `at event ${chain.first_bad}`,
          ),
        ),
      ),
    ),
    h("p", { class: "note" }, `As of ${moment(report.at)}; exceptions of the last ${report.days} days.`),
  );
}

function past(items) {
  if (items.length < 2)
    return h(
      "section",
      { class: "card" },
      h("h2", {}, "Over time"),
      h("p", { class: "empty" }, "The hub keeps one report a day; from the second on they are drawn here."),
    );
  const days = [...items].sort((a, b) => a.at.localeCompare(b.at));
  const sums = days.map((day) => FINDINGS.reduce((sum, name) => sum + (day.totals[name] ?? 0), 0));
  const highest = Math.max(...sums, 1);
  const width = 640 / days.length;
  return h(
    "section",
    { class: "card" },
    h("h2", {}, "Findings over time"),
    s(
      "svg",
      {
        viewBox: "0 0 640 110",
        class: "plot",
        role: "img",
        "aria-label": `Findings a day: ${sums.at(-1)} at the end, ${highest} at the highest`,
      },
      days.map((day, at) => {
        const bar = s("rect", {
          x: at * width + 1,
          y: 90 - (80 * sums[at]) / highest,
          width: Math.max(1, width - 2),
          height: Math.max(1, (80 * sums[at]) / highest),
          class: "day",
        });
        bar.append(s("title", {}, `${moment(day.at)}: ${sums[at]}`));
        return bar;
      }),
      s("text", { x: 0, y: 107, class: "scale" }, moment(days[0].at)),
      s("text", { x: 640, y: 107, class: "scale end" }, moment(days.at(-1).at)),
    ),
  );
}
