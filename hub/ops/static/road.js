// The road of a rollout: canary, early, general, how far each is, and how near it is to halting.

import { h } from "./dom.js";
import { stacked } from "./charts.js";
import { ago, clock, number, part, share, span, words } from "./format.js";

const OUTCOMES = [
  ["committed", "committed"],
  ["in_progress", "in progress"],
  ["failed", "failed"],
  ["rolled_back", "rolled back"],
  ["lost", "lost"],
  ["drifted", "drifted since"],
  ["safe_mode", "in safe mode since"],
];
const FAILURES = ["failed", "rolled_back", "lost", "drifted", "safe_mode"];

/** Returns the road; `progress` is what `GET /releases/{id}/progress` answers. */
export function road(progress) {
  return h(
    "ol",
    { class: "road" },
    progress.segments.map((segment) => stop(progress, segment)),
  );
}

function stop(progress, segment) {
  const isHere = progress.segment === segment.segment && progress.state !== "complete";
  const isReached = segment.share_basis_points > 0;
  const left = Math.max(0, segment.awaited - segment.in_progress);
  const parts = OUTCOMES.map(([name, label]) => ({ name, label, value: segment[name] }));
  return h(
    "li",
    {
      class: ["stop", isHere && "here", isReached && "reached"].filter(Boolean).join(" "),
      "data-segment": segment.segment,
    },
    h(
      "div",
      { class: "stop-head" },
      h("h3", {}, segment.segment),
      isHere && h("span", { class: `state s-${progress.state}` }, progress.state),
    ),
    h(
      "div",
      {
        class: "road-bar",
        role: "img",
        "aria-label": `offered to ${share(segment.share_basis_points)} of ${segment.segment}`,
      },
      h("span", { class: "road-fill", style: { width: `${segment.share_basis_points / 100}%` } }),
    ),
    h(
      "p",
      {},
      h("b", {}, share(segment.share_basis_points)),
      " offered",
      isReached && [
        " · ",
        !segment.expected_exact && "about ",
        h("b", {}, number(segment.expected)),
        segment.expected === 1 ? " device" : " devices",
      ],
    ),
    isReached && [
      stacked(
        [...parts, { name: "awaited", label: "to come", value: left }],
        `outcomes in ${segment.segment}`,
      ),
      h(
        "ul",
        { class: "legend small" },
        [...parts, { name: "awaited", label: "to come", value: left }]
          .filter((each) => each.value)
          .map((each) =>
            h(
              "li",
              { class: `chip c-${each.name}`, "data-outcome": each.name },
              h("i", { "aria-hidden": "true" }),
              `${each.label} `,
              h("b", {}, number(each.value)),
            ),
          ),
      ),
      haltLine(progress.policy.failure, segment),
      timing(segment),
    ],
  );
}

function haltLine(policy, segment) {
  const { began, ended, failures } = segment.judged;
  const ratio = ended ? failures / ended : 0;
  const needed = Math.min(policy.min_reports, began);
  const end = Math.min(1, Math.max(2 * policy.max_ratio, ratio * 1.15, 0.02));
  const counts = ended >= needed && began > 0;
  const text = [
    `${number(failures)} of ${number(ended)} failed (${part(failures, ended)}); halts above ${+(100 * policy.max_ratio).toFixed(2)}%`,
    !counts && `, once ${needed || policy.min_reports} have ended`,
    policy.max_count !== null && `, or with more than ${number(policy.max_count)} failures`,
  ]
    .filter(Boolean)
    .join("");
  return h(
    "div",
    { class: "halt" },
    h(
      "div",
      { class: "halt-scale", role: "img", "aria-label": text },
      h("span", {
        class: ratio > policy.max_ratio ? "halt-fill over" : "halt-fill",
        style: { width: `${(100 * ratio) / end}%` },
      }),
      h("span", { class: "halt-mark", style: { left: `${(100 * policy.max_ratio) / end}%` } }),
    ),
    h("p", { class: "note" }, text),
  );
}

function timing(segment) {
  const total = segment.times_ms?.total;
  return h(
    "p",
    { class: "note" },
    segment.started_at && `since ${clock(segment.started_at)} (${ago(segment.started_at)})`,
    segment.finished_at && ` until ${clock(segment.finished_at)}`,
    segment.forecast_at && ` · all by about ${clock(segment.forecast_at)}`,
    total?.p50 !== undefined && total?.p50 !== null && ` · takes ${span(total.p50)}`,
  );
}

/** Returns how many failed in which way, and who refused why, over all segments. */
export function failures(progress) {
  const rows = progress.segments.flatMap((segment) => [
    ...FAILURES.filter((name) => segment[name]).map((name) => ({
      what: words(name),
      where: segment.segment,
      value: segment[name],
    })),
    ...Object.entries(segment.refused).map(([reason, value]) => ({
      what: `refused: ${words(reason)}`,
      where: segment.segment,
      value,
    })),
  ]);
  if (!rows.length) return h("p", { class: "empty good" }, "No device failed or refused.");
  const most = Math.max(...rows.map((row) => row.value));
  return h(
    "ul",
    { class: "bars" },
    rows
      .sort((a, b) => b.value - a.value)
      .map((row) =>
        h(
          "li",
          {},
          h("span", {}, `${row.what} `, h("span", { class: "note" }, `in ${row.where}`)),
          h("b", {}, number(row.value)),
          h("span", { class: "bar", style: { width: `${(100 * row.value) / most}%` } }),
        ),
      ),
  );
}

/** Returns who began each stage and each of its steps, when, and why it ended. */
export function stages(list) {
  if (!list.length) return h("p", { class: "empty" }, "Not promoted yet.");
  return h(
    "ol",
    { class: "events" },
    list
      .flatMap((stage) =>
        stage.steps.map((step) =>
          h(
            "li",
            {},
            h("time", { datetime: step.started_at }, clock(step.started_at)),
            h(
              "div",
              {},
              h("b", {}, `${share(step.basis_points)} of ${stage.segment}`),
              ` by ${step.started_by}`,
              step.start_reason && h("div", {}, step.start_reason),
              step.finished_at &&
                h(
                  "div",
                  { class: "note" },
                  `ended ${clock(step.finished_at)}: ${step.finish_reason || "no reason given"}`,
                ),
            ),
          ),
        ),
      )
      .reverse(),
  );
}
