// What people do to a rollout: each with a preview by the hub itself, and a confirmation.

import { h, put, say } from "./dom.js";
import { may } from "./auth.js";
import { id } from "./api.js";
import { words } from "./format.js";
import { shown } from "./preview.js";

const SEGMENTS = ["canary", "early", "general"];
const VERBS = {
  promote: { label: "Promote", least: "release-manager", when: ["published", "rolling"] },
  pause: { label: "Pause", least: "operator", when: ["rolling"] },
  resume: { label: "Resume", least: "release-manager", when: ["paused", "halted"] },
  rollback: {
    label: "Roll back",
    least: "operator",
    when: ["rolling", "paused", "halted", "complete"],
    danger: true,
  },
};

/** Returns the buttons of a rollout; what may not be done is disabled, and why stands beside it. */
export function actions({ api, role, progress, done }) {
  const lacking = Object.values(VERBS).filter((verb) => !may(role, verb.least));
  return h(
    "div",
    { class: "actions", role: "group", "aria-label": "Actions" },
    Object.entries(VERBS).map(([name, verb]) => {
      const why = !may(role, verb.least)
        ? `needs the role ${verb.least}`
        : !verb.when.includes(progress.state)
          ? `not while ${words(progress.state)}`
          : null;
      return h(
        "button",
        {
          type: "button",
          "data-key": `act-${name}`,
          class: verb.danger ? "danger" : name === "promote" ? "main" : "",
          disabled: why !== null,
          title: why,
          on: { click: () => open({ api, name, verb, progress, done }) },
        },
        verb.label,
      );
    }),
    lacking.length > 0 &&
      h(
        "p",
        { class: "note why-not" },
        `As ${role} you look; ${lacking.map((verb) => verb.label.toLowerCase()).join(", ")} ${lacking.length === 1 ? "needs" : "need"} ${lacking[0].least}.`,
      ),
  );
}

function open({ api, name, verb, progress, done }) {
  const preview = h("div", { class: "preview", "aria-live": "polite", id: "preview" });
  const confirm = h(
    "button",
    {
      type: "submit",
      class: verb.danger ? "danger main" : "main",
      disabled: true,
      "data-key": "confirm",
    },
    verb.label,
  );
  const form =
    name === "promote"
      ? promotion(progress)
      : { fields: [reasonField()], body: (data) => ({ reason: data.get("reason") }) };
  const problem = h("p", { class: "error", role: "alert", hidden: true });
  const dialog = h("dialog", { "aria-labelledby": "dialog-title" });
  const path = `releases/${id(progress.id)}/${name}`;
  const body = () => form.body(new FormData(element));
  let asked = 0;
  const look = async () => {
    const mine = ++asked;
    confirm.disabled = true;
    put(preview, h("p", { class: "note" }, "Asking the hub what would happen…"));
    try {
      const found = await api.post(path, body(), { dry_run: "true" });
      if (mine !== asked) return;
      put(preview, shown(name, found));
      confirm.disabled = found.refused_by !== null;
    } catch (error) {
      if (mine === asked) put(preview, h("p", { class: "refused" }, error.message));
    }
  };
  const submit = async (event) => {
    event.preventDefault();
    confirm.disabled = true;
    try {
      await api.post(path, body());
      dialog.close();
      say(`${verb.label}: done.`);
      done();
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
      confirm.disabled = false;
    }
  };
  const element = h(
    "form",
    { on: { submit, change: (event) => event.target.name !== "reason" && look() } },
    h("h2", { id: "dialog-title" }, `${verb.label} ${progress.role} ${progress.version}`),
    form.fields,
    preview,
    problem,
    h(
      "div",
      { class: "buttons" },
      h("button", { type: "button", on: { click: () => dialog.close() } }, "Cancel"),
      confirm,
    ),
  );
  dialog.append(element);
  dialog.addEventListener("close", () => {
    dialog.remove();
    document.querySelector(`[data-key="act-${name}"]`)?.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  look();
}

function reasonField() {
  return h(
    "label",
    {},
    "Why (it stands in the audit)",
    h("input", { name: "reason", maxlength: 1024, autocomplete: "off" }),
  );
}

function promotion(progress) {
  const here = progress.segment ?? "canary";
  const isWhole = progress.segment !== null && progress.basis_points === 10_000;
  const due = isWhole ? SEGMENTS[Math.min(SEGMENTS.indexOf(here) + 1, 2)] : here;
  const next = due === here && progress.step ? progress.step.next_basis_points / 100 : null;
  const fields = [
    h(
      "div",
      { class: "fields" },
      h(
        "label",
        {},
        "Segment",
        h(
          "select",
          { name: "segment" },
          SEGMENTS.map((name) => h("option", { value: name, selected: name === due }, name)),
        ),
      ),
      h(
        "label",
        {},
        "Share in percent",
        h("input", {
          name: "share",
          type: "number",
          min: 0.01,
          max: 100,
          step: 0.01,
          inputmode: "decimal",
          value: next,
          placeholder: "next step of the policy",
        }),
      ),
    ),
    reasonField(),
    h(
      "label",
      { class: "check" },
      h("input", { type: "checkbox", name: "override" }),
      "Pass over the gate (needs a reason)",
    ),
  ];
  const body = (data) => ({
    targetSegment: data.get("segment"),
    ...(data.get("share") ? { rolloutPercentage: Number(data.get("share")) } : {}),
    reason: data.get("reason"),
    override: data.get("override") !== null,
  });
  return { fields, body };
}
