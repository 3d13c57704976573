// What the page knows of the fleet: counts that are asked for again when the hub says that something changed.

/** How soon after an answer the next may be asked for (ms), and how many times as long as an answer took. */
const PAUSE_MS = 400;
const SHARE = 4;
const RECENT = 50;

/** Tells `change` when counts or alerts are new, `event` for each entry of the log. */
export class Fleet extends EventTarget {
  #api;
  #isBusy = false;
  #isDue = false;

  constructor(api, live) {
    super();
    this.#api = api;
    this.overview = null;
    this.problem = null;
    this.alerts = [];
    this.recent = [];
    live.addEventListener("summary", ({ detail }) => {
      if (detail.summary === "alerts" && detail.state) this.alerts = detail.state.alerts;
      this.refresh();
    });
    live.addEventListener("event", ({ detail }) => {
      this.recent = [detail, ...this.recent.filter((each) => each.n !== detail.n)].slice(0, RECENT);
      this.dispatchEvent(new CustomEvent("event", { detail }));
      this.refresh();
    });
    live.addEventListener("state", () => live.state === "live" && this.refresh());
  }

  /** Who uses the page, as the hub knows them. */
  get caller() {
    return this.overview?.caller ?? { name: "", role: "" };
  }

  /** Fetches the counts, and the newest entries of the log once. Raises `Problem`. */
  async load() {
    this.overview = await this.#api.get("fleet/overview");
    if (!this.recent.length) this.recent = (await this.#api.get("audits", { limit: 20 })).items;
    this.dispatchEvent(new Event("change"));
  }

  /** Fetches the counts soon: at once, or as soon as the last answer is old enough. */
  async refresh() {
    this.#isDue = true;
    if (this.#isBusy) return;
    this.#isBusy = true;
    while (this.#isDue) {
      this.#isDue = false;
      const begin = performance.now();
      try {
        await this.load();
      } catch {
        // The stream says that the hub is away, and asks again when it is back.
      }
      await new Promise((resolve) =>
        setTimeout(resolve, Math.max(PAUSE_MS, SHARE * (performance.now() - begin))),
      );
    }
    this.#isBusy = false;
  }

  /** The sum of a count over groups: `sum("presence", "online")`, or of `devices`. */
  sum(kind, name, groups = this.overview?.groups ?? []) {
    return groups.reduce(
      (total, group) => total + (name === undefined ? group[kind] : (group[kind][name] ?? 0)),
      0,
    );
  }

  /** A release that stands or is under way, by its id. */
  release(id) {
    return this.overview?.releases.find((each) => each.id === id);
  }
}
