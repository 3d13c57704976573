// What people ask of one device; each with a confirmation and a reason.

import { h, say } from "./dom.js";
import { id } from "./api.js";
import { may } from "./auth.js";

const LEAST = "operator";

/** What fits the device as it is: label, path and body of the request, and what it means. */
function fitting(found, trouble) {
  const device = id(found.device_id);
  const isSafe = trouble.in_safe_mode || found.safe_mode === "on";
  return [
    {
      name: "diagnose",
      label: "Diagnose",
      path: `recovery/${device}/collect-diagnostics`,
      means: "asks the device for its diagnostics",
    },
    {
      name: "check-drift",
      label: "Check drift",
      path: `devices/${device}/commands`,
      more: { kind: "check-drift" },
      means: "has it compare what stands on it with what was released",
    },
    {
      name: "repair",
      label: "Repair drift",
      path: `recovery/${device}/repair`,
      means: "has it put right what differs from its release",
    },
    {
      name: "redeploy",
      label: "Redeploy",
      path: `recovery/${device}/redeploy`,
      means: "has it install its release again",
      refused: trouble.redeploy.allowed ? null : trouble.redeploy.detail,
    },
    trouble.quarantine
      ? {
          name: "release",
          label: "Let go",
          path: `recovery/${device}/release`,
          means: "ends its quarantine: it may update again",
          needsReason: true,
        }
      : {
          name: "quarantine",
          label: "Quarantine",
          path: `recovery/${device}/quarantine`,
          means: "holds it back until somebody lets it go",
          needsReason: true,
          danger: true,
        },
    isSafe
      ? {
          name: "leave",
          label: "Leave safe mode",
          path: `recovery/${device}/leave`,
          means: "ends its stay in safe mode",
        }
      : {
          name: "enter",
          label: "Safe mode",
          path: `recovery/${device}/enter`,
          means: "stops its service and keeps the minimal stack",
          danger: true,
        },
  ];
}

/** Returns the buttons; disabled, with the reason, for who only looks. */
export function orders({ api, role, found, trouble, done }) {
  const allowed = may(role, LEAST) && !found.revoked;
  return h(
    "div",
    { class: "actions", role: "group", "aria-label": "Actions" },
    fitting(found, trouble).map((order) => {
      const why = found.revoked
        ? "it was revoked"
        : !may(role, LEAST)
          ? `needs the role ${LEAST}`
          : (order.refused ?? null);
      return h(
        "button",
        {
          type: "button",
          class: order.danger ? "danger" : "",
          "data-key": `order-${order.name}`,
          disabled: why !== null,
          title: why ?? order.means,
          on: { click: () => open(api, found.device_id, order, done) },
        },
        order.label,
      );
    }),
    !allowed &&
      h(
        "p",
        { class: "note why-not" },
        found.revoked ? "This device was revoked." : `As ${role} you look; orders need ${LEAST}.`,
      ),
  );
}

function open(api, device, order, done) {
  const problem = h("p", { class: "error", role: "alert", hidden: true });
  const confirm = h("button", { type: "submit", class: order.danger ? "danger main" : "main" }, order.label);
  const dialog = h("dialog", { "aria-labelledby": "order-title" });
  const submit = async (event) => {
    event.preventDefault();
    confirm.disabled = true;
    try {
      await api.post(order.path, { ...order.more, reason: new FormData(event.target).get("reason") });
      dialog.close();
      say(`${order.label}: asked of ${device}.`);
      done();
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
      confirm.disabled = false;
    }
  };
  dialog.append(
    h(
      "form",
      { on: { submit } },
      h("h2", { id: "order-title" }, `${order.label}: ${device}`),
      h("p", {}, `This ${order.means}.`),
      h(
        "label",
        {},
        order.needsReason ? "Why" : "Why (it stands in the audit)",
        h("input", {
          name: "reason",
          maxlength: 1024,
          required: order.needsReason ?? false,
          autocomplete: "off",
        }),
      ),
      problem,
      h(
        "div",
        { class: "buttons" },
        h("button", { type: "button", on: { click: () => dialog.close() } }, "Cancel"),
        confirm,
      ),
    ),
  );
  dialog.addEventListener("close", () => {
    dialog.remove();
    document.querySelector(`[data-key="order-${order.name}"]`)?.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
}
