// What is known of one device, in cards.

import { h } from "./dom.js";
import { ago, clock, moment, words } from "./format.js";
import { id } from "./api.js";

const KINDS = [
  "",
  "update-result",
  "drift",
  "recovery",
  "command-result",
  "presence",
  "release",
  "audit",
  "status",
];

function list(pairs) {
  return h(
    "dl",
    { class: "facts" },
    pairs
      .filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false)
      .map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
  );
}

/** What the device is. */
export function facts(found) {
  return h(
    "section",
    { class: "card", "aria-labelledby": "facts-title" },
    h("h2", { id: "facts-title" }, "Device"),
    list([
      ["Role", found.role],
      ["Segment", found.segment],
      ["Site", found.site],
      ["Hardware", found.hardware],
      ["Serial", found.serial],
      ["Owner", found.owner],
      ["Where", found.geolocation],
      ["Presence", `${found.presence}, last seen ${ago(found.last_seen)}`],
      ["Health", found.health],
      ["Agent", found.agent_version],
      ["Heartbeat", `every ${found.update_interval} s`],
      ["Certificate", `until ${moment(found.certificate_not_after)}`],
      ["Registered", moment(found.created_at)],
      [
        "Tags",
        Object.entries(found.tags)
          .map(([key, value]) => `${key}=${value}`)
          .join(", "),
      ],
    ]),
  );
}

/** What it runs, and what it would decide about the release on offer. */
export function update(found, verdict) {
  return h(
    "section",
    { class: "card", "aria-labelledby": "update-title" },
    h("h2", { id: "update-title" }, "Release"),
    list([
      [
        "Runs",
        found.running ? h("a", { href: `#/rollouts/${id(found.running)}` }, found.running) : "none of ours",
      ],
      ["Last attempt", found.attempt && `${found.attempt.release}: ${words(found.attempt.state)}`],
      [
        "It says",
        found.verdict &&
          `${words(found.verdict.reason)}${found.verdict.release ? ` (${found.verdict.release})` : ""}`,
      ],
      [
        "On offer",
        verdict &&
          h(
            "span",
            {},
            h("a", { href: `#/rollouts/${id(verdict.release)}` }, verdict.release),
            `: ${words(verdict.reason)}`,
            verdict.detail && h("div", { class: "note" }, verdict.detail),
          ),
      ],
      ["Bucket", verdict && `${verdict.bucket} of 10,000`],
      ["Locked to", found.version_lock],
      ["Maintenance", found.maintenance ? "yes" : ""],
    ]),
  );
}

/** Quarantine, safe mode, drift, and diagnostics that did not pass. */
export function troubles(found, trouble, drift) {
  const differs = drift?.items?.length > 0 && !drift.repaired;
  const failed = (trouble.diagnostics?.checks ?? []).filter((check) => check.verdict !== "ok");
  const isCalm =
    !trouble.quarantine && !trouble.in_safe_mode && found.safe_mode !== "on" && !differs && !failed.length;
  return h(
    "section",
    { class: "card", "aria-labelledby": "trouble-title" },
    h("h2", { id: "trouble-title" }, "Trouble"),
    isCalm && h("p", { class: "empty good" }, "None."),
    list([
      [
        "Quarantine",
        trouble.quarantine &&
          `${words(trouble.quarantine.rule)} by ${trouble.quarantine.by}, ${ago(trouble.quarantine.since)}: ${trouble.quarantine.reason}`,
      ],
      [
        "Safe mode",
        (trouble.in_safe_mode || found.safe_mode === "on") && (trouble.stays[0]?.reason || "ordered"),
      ],
      [
        "Drift",
        differs &&
          h(
            "ul",
            {},
            drift.items.slice(0, 12).map((item) => h("li", {}, `${item.path}: ${item.what}`)),
            drift.items.length > 12 && h("li", {}, `and ${drift.items.length - 12 + (drift.more ?? 0)} more`),
          ),
      ],
      ["Diagnostics", trouble.diagnostics && `of ${moment(trouble.diagnostics.at)}`],
    ]),
    failed.length > 0 &&
      h(
        "ul",
        { class: "alert-list" },
        failed
          .slice(0, 12)
          .map((check) => h("li", {}, h("b", {}, `${check.name}: ${check.verdict}`), check.detail)),
      ),
  );
}

/** A page of its timeline, and the choice of a kind. */
export function timelineOf(items, kind, choose) {
  return [
    h(
      "div",
      { class: "head" },
      h("h2", { id: "timeline-title" }, "Timeline"),
      h(
        "select",
        {
          "aria-label": "Kind",
          id: "timeline-kind",
          on: { change: (event) => choose(event.target.value) },
        },
        KINDS.map((name) =>
          h(
            "option",
            { value: name, selected: name === kind },
            name ? words(name).replace("-", " ") : "everything",
          ),
        ),
      ),
    ),
    items.length
      ? h(
          "ol",
          { class: "events" },
          items.map((item) =>
            h(
              "li",
              {},
              h("time", { datetime: item.at, title: clock(item.at) }, moment(item.at)),
              h("div", {}, h("b", {}, item.kind.replace("-", " ")), " ", item.text),
            ),
          ),
        )
      : h("p", { class: "empty" }, "Nothing of this kind."),
  ];
}

/** The commands that it was given. */
export function commands(items) {
  return h(
    "section",
    { class: "card", "aria-labelledby": "commands-title" },
    h("h2", { id: "commands-title" }, "Commands"),
    items.length
      ? h(
          "ol",
          { class: "events" },
          items.map((item) =>
            h(
              "li",
              {},
              h("time", { datetime: item.created_at }, moment(item.created_at)),
              h(
                "div",
                {},
                h("b", {}, item.kind.replaceAll("-", " ")),
                ` ${item.state}`,
                h(
                  "div",
                  { class: "note" },
                  [item.detail, item.reason, `by ${item.created_by}`].filter(Boolean).join(" · "),
                ),
              ),
            ),
          ),
        )
      : h("p", { class: "empty" }, "None so far."),
  );
}
