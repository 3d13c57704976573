// Follows the hub's events. EventSource cannot send a token, so the stream is read by fetch; the rest is as the standard
// has it: after a break it goes on behind the last event that was seen.

/** The hub says something every 15 s at the least; who hears nothing for this long is not connected. */
const DEAD_MS = 40_000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;

/**
 * Tells `event` (detail: one entry of the log), `summary` (detail: name and state) and `state`.
 * `state` is "connecting", "live" or "stale", `heard` when the hub was heard last (ms).
 */
export class Live extends EventTarget {
  #api;
  #last = "0";
  #cut = null;

  constructor(api) {
    super();
    this.#api = api;
    this.state = "connecting";
    this.heard = null;
  }

  /** Begins behind the event `after`: what came since the page asked for the newest is told as well. */
  start(after) {
    this.#last = String(after);
    this.#run();
  }

  /** Looks again at once, as when the network is said to be back. */
  again() {
    this.#cut?.();
  }

  async #run() {
    let wait = FIRST_WAIT_MS;
    for (;;) {
      const begin = Date.now();
      try {
        await this.#follow();
      } catch {
        // Whatever broke it, the answer is the same: say so, wait, go on behind the last event.
      }
      if (this.heard !== null && this.heard > begin) wait = FIRST_WAIT_MS;
      this.#become("stale");
      await new Promise((resolve) => {
        this.#cut = resolve;
        setTimeout(resolve, wait * (0.5 + Math.random() / 2));
      });
      wait = Math.min(2 * wait, LONGEST_WAIT_MS);
    }
  }

  async #follow() {
    const abort = new AbortController();
    this.#cut = () => abort.abort();
    let watchdog = setTimeout(() => abort.abort(), DEAD_MS);
    try {
      const headers = { Accept: "text/event-stream", "Last-Event-ID": this.#last };
      const answer = await this.#api.open("events", { headers, signal: abort.signal });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        clearTimeout(watchdog);
        watchdog = setTimeout(() => abort.abort(), DEAD_MS);
        this.heard = Date.now();
        this.#become("live");
        const parts = (text + value).split("\n\n");
        text = parts.pop();
        parts.forEach((part) => this.#tell(part));
      }
    } finally {
      clearTimeout(watchdog);
    }
  }

  #tell(block) {
    const found = fields(block);
    if (found.data === undefined) return;
    if (found.id !== undefined) this.#last = found.id;
    const detail = JSON.parse(found.data);
    this.dispatchEvent(new CustomEvent(found.event === "summary" ? "summary" : "event", { detail }));
  }

  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}

/** The fields of one event of a stream, by name. */
export function fields(block) {
  const found = {};
  for (const line of block.split("\n")) {
    const at = line.indexOf(":");
    if (at <= 0) continue;
    const value = line.slice(at + 1).replace(/^ /, "");
    const name = line.slice(0, at);
    found[name] = name === "data" && "data" in found ? `${found.data}\n${value}` : value;
  }
  return found;
}
