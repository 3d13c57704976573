// Entries of the log as lines that people read.

import { h } from "./dom.js";
import { clock, moment, words, share } from "./format.js";
import { id } from "./api.js";

/** What an entry says beside its kind. */
function about(event) {
  const body = event.body ?? {};
  const parts = [];
  if (body.segment)
    parts.push(body.basis_points ? `${share(body.basis_points)} of ${body.segment}` : body.segment);
  if (body.kind && event.kind.startsWith("command"))
    parts.push(`${words(body.kind)}${body.outcome ? `: ${body.outcome}` : ""}`);
  if (event.reason) parts.push(event.reason);
  return parts.join(" · ");
}

/** Returns an entry of the log as a list item. */
export function line(event, { withDay = false } = {}) {
  const grave = /halted|quarantined|storm|evicted|copied|revoked|safe_mode_ordered/.test(event.kind);
  return h(
    "li",
    { class: grave ? "grave" : "", "data-n": event.n },
    h("time", { datetime: event.at, title: moment(event.at) }, withDay ? moment(event.at) : clock(event.at)),
    h(
      "div",
      {},
      h("b", {}, words(event.kind).replace(".", " ")),
      " ",
      event.device_id && h("a", { href: `#/devices/${id(event.device_id)}` }, event.device_id),
      " ",
      event.release_id && h("a", { href: `#/rollouts/${id(event.release_id)}` }, event.release_id),
      h("div", { class: "note" }, [about(event), `by ${event.actor}`].filter(Boolean).join(" · ")),
    ),
  );
}
