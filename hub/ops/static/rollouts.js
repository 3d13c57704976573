// Releases, and the rollout of one.

import { draw, h, put, say } from "./dom.js";
import { ago, moment, share } from "./format.js";
import { id } from "./api.js";
import { failures, road, stages } from "./road.js";
import { actions } from "./actions.js";
import { oneByOne } from "./pace.js";
import { line } from "./events.js";

const PAGE = 100;

/** Every release, the newest first. */
export function rolloutsView({ api, fleet, args }) {
  if (args[0]) return rolloutView({ api, fleet, release: args[0] });
  const list = h("div", { class: "card" }, h("p", { class: "empty" }, "Loading…"));
  const element = h("div", {}, h("div", { class: "head" }, h("h1", {}, "Rollouts")), list);
  const load = oneByOne(async () => {
    try {
      put(list, table(await api.get("releases", { limit: PAGE })));
    } catch (error) {
      put(list, h("p", { class: "error" }, error.message));
    }
  });
  const changed = ({ detail }) => detail.kind.startsWith("release.") && load();
  fleet.addEventListener("event", changed);
  load();
  return { element, title: "Rollouts", close: () => fleet.removeEventListener("event", changed) };
}

function table(page) {
  if (!page.items.length) {
    return h(
      "p",
      { class: "empty" },
      "No release yet. flaghoist release build, sign and publish make the first.",
    );
  }
  return h(
    "div",
    { class: "wide" },
    h(
      "table",
      { class: "cards short" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ["Release", "State", "Offered to", "Why", "Changed"].map((name) => h("th", { scope: "col" }, name)),
        ),
      ),
      h(
        "tbody",
        {},
        page.items.map((release) =>
          h(
            "tr",
            {},
            h(
              "td",
              {},
              h("a", { href: `#/rollouts/${id(release.id)}` }, `${release.role} ${release.version}`),
              h("div", { class: "note" }, release.id),
            ),
            h("td", {}, h("span", { class: `state s-${release.state}` }, release.state)),
            h("td", {}, release.segment ? `${share(release.basis_points)} of ${release.segment}` : "–"),
            h("td", {}, release.reason || "–"),
            h("td", { title: moment(release.updated_at) }, ago(release.updated_at)),
          ),
        ),
      ),
    ),
    page.next_cursor !== null &&
      h("p", { class: "note" }, `The newest ${PAGE}; flaghoist release list has all.`),
  );
}

function rolloutView({ api, fleet, release }) {
  const head = h("div", { class: "head" }, h("h1", {}, release));
  const body = h("div", { class: "stack" }, h("p", { class: "empty" }, "Loading…"));
  let known = null;
  const load = oneByOne(async () => {
    try {
      const [progress, detail, events, approvals] = await Promise.all([
        api.get(`releases/${id(release)}/progress`),
        api.get(`releases/${id(release)}`),
        api.get("audits", { releaseId: release, limit: 20 }),
        api.get(`releases/${id(release)}/approvals`),
      ]);
      if (progress.state === "halted" && known?.state !== "halted") say(`Halted: ${progress.reason}`);
      known = progress;
      const { role } = fleet.caller;
      draw(
        head,
        [progress.state, progress.segment, progress.basis_points, progress.step?.next_basis_points, role],
        () => headOf(progress, actions({ api, role, progress, done: load })),
      );
      draw(body, [progress, detail, events, approvals], () =>
        content(progress, detail, events.items, approvals.items),
      );
    } catch (error) {
      if (!known) put(body, h("p", { class: "error" }, error.message));
    }
  });
  // Reports are no events: while a rollout is under way its progress is asked for whenever the fleet changed.
  const changed = () =>
    (known === null || !["complete", "superseded", "rolled_back"].includes(known.state)) && load();
  const told = ({ detail }) => detail.release_id === release && load();
  fleet.addEventListener("change", changed);
  fleet.addEventListener("event", told);
  load();
  return {
    element: h("div", {}, head, body),
    title: `Rollout ${release}`,
    close: () => {
      fleet.removeEventListener("change", changed);
      fleet.removeEventListener("event", told);
    },
  };
}

function headOf(progress, buttons) {
  return [
    h(
      "div",
      {},
      h("h1", {}, `${progress.role} ${progress.version}`),
      h("p", { class: "note" }, `${progress.id} · commit ${progress.commit.slice(0, 12)}`),
    ),
    h("span", { class: `state s-${progress.state}`, id: "release-state" }, progress.state),
    buttons,
  ];
}

function content(progress, detail, events, approvals) {
  return [
    progress.reason &&
      h(
        "p",
        { class: progress.state === "halted" ? "error" : "card", id: "release-reason" },
        h("b", {}, progress.state),
        `: ${progress.reason}`,
      ),
    h(
      "section",
      { class: "card", "aria-labelledby": "road-title" },
      h("h2", { id: "road-title" }, "The road"),
      road(progress),
      next(progress),
    ),
    h(
      "div",
      { class: "thirds" },
      h(
        "section",
        { class: "card", "aria-labelledby": "failures-title" },
        h("h2", { id: "failures-title" }, "What went wrong"),
        failures(progress),
      ),
      h(
        "section",
        { class: "card", "aria-labelledby": "stages-title" },
        h("h2", { id: "stages-title" }, "Stages"),
        stages(detail.stages),
        approvals.length > 0 && [
          h("h3", {}, "Approved"),
          h(
            "ul",
            {},
            approvals.map((each) =>
              h("li", {}, `${each.segment} by ${each.by}`, each.reason && `: ${each.reason}`),
            ),
          ),
        ],
      ),
      h(
        "section",
        { class: "card", "aria-labelledby": "told-title" },
        h("h2", { id: "told-title" }, "What happened"),
        h(
          "ol",
          { class: "events" },
          events.map((event) => line(event, { withDay: true })),
        ),
      ),
    ),
  ];
}

function next({ gate, step, scheduled }) {
  const due = step ?? gate;
  return h(
    "p",
    { class: "note next" },
    due && (due.passed ? "The gate is passed: it may go on." : `The gate: ${due.detail}`),
    scheduled &&
      ` Scheduled: ${share(scheduled.basis_points)} of ${scheduled.segment} not before ${moment(scheduled.not_before)}, by ${scheduled.actor}.`,
  );
}
