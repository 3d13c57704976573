// Puts the page together: who uses it, what the hub tells, and which view the address names.

import { Api } from "./api.js";
import { Auth } from "./auth.js";
import { byId, h, put, say } from "./dom.js";
import { Fleet } from "./fleet.js";
import { clock, span } from "./format.js";
import { Live } from "./live.js";
import { startTheme } from "./theme.js";
import { auditView } from "./audit.js";
import { complianceView } from "./compliance.js";
import { devicesView } from "./devices.js";
import { overviewView } from "./overview.js";
import { rolloutsView } from "./rollouts.js";

const PAGES = [
  { path: "", label: "Overview", view: overviewView },
  { path: "rollouts", label: "Rollouts", view: rolloutsView },
  { path: "devices", label: "Devices", view: devicesView },
  { path: "audit", label: "Audit", view: auditView },
  { path: "compliance", label: "Compliance", view: complianceView },
];

const auth = new Auth();
const api = new Api(auth);
const live = new Live(api);
const fleet = new Fleet(api, live);
let shown = null;

function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  const page = PAGES.find((each) => each.path === name) ?? PAGES[0];
  return { page, args: rest.map(decodeURIComponent), query: new URLSearchParams(query) };
}

function show() {
  if (location.hash && !location.hash.startsWith("#/")) return;
  const { page, args, query } = route();
  shown?.close?.();
  shown = page.view({ api, fleet, live, args, query });
  put(byId("main"), shown.element);
  document.title = `${shown.title} · ${fleet.overview?.fleet ?? "Flaghoist"}`;
  for (const link of byId("nav").children) {
    if (link.dataset.path === page.path) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  say(shown.title);
}

function showLive() {
  const box = byId("live");
  box.dataset.state = live.state;
  byId("live-text").textContent = { live: "Live", stale: "Stale", connecting: "Connecting" }[live.state];
  const stale = byId("stale");
  const isStale = live.state === "stale";
  document.body.classList.toggle("is-stale", isStale);
  if (isStale && stale.hidden) say("Stale: the hub does not answer.");
  if (isStale) {
    const since = live.heard
      ? `Stale since ${clock(live.heard)} (${span(Date.now() - live.heard)})`
      : "Not connected";
    put(
      stale,
      h("b", {}, since),
      ": the hub does not answer, and what stands here is what it said last. Trying again…",
    );
  } else if (!stale.hidden) {
    say("The hub answers again.");
  }
  stale.hidden = !isStale;
}

async function enter() {
  await auth.find(api.base);
  for (;;) {
    try {
      return await fleet.load();
    } catch (error) {
      if (error.status !== 0)
        return auth.ask(() => fleet.load(), api.base, auth.hasToken ? error.message : "");
      live.state = "stale";
      showLive();
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
}

async function start() {
  startTheme();
  put(
    byId("nav"),
    PAGES.map((page) => h("a", { href: `#/${page.path}`, "data-path": page.path }, page.label)),
  );
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("main").focus();
  });
  byId("leave").addEventListener("click", () => auth.leave(api).catch((error) => say(error.message)));
  await enter();
  auth.onRefused(() => location.reload());
  byId("fleet-name").textContent = fleet.overview.fleet;
  byId("who").textContent = `${fleet.caller.name} (${fleet.caller.role})`;
  byId("leave").textContent = auth.hasToken ? "Forget token" : "Log out";
  byId("leave").hidden = false;
  live.addEventListener("state", showLive);
  setInterval(() => live.state === "stale" && showLive(), 1000);
  addEventListener("online", () => live.again());
  addEventListener("hashchange", () => {
    show();
    byId("main").focus({ preventScroll: true });
    scrollTo(0, 0);
  });
  show();
  live.start(fleet.recent[0]?.n ?? 0);
}

start();
