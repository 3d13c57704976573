// Asks the hub. Every address is relative to the page's own, so that a prefix that a proxy gives it holds for all.

/** What the hub refused, or that it could not be asked at all (status 0). */
export class Problem extends Error {
  constructor(status, rule, detail) {
    super(detail);
    this.status = status;
    this.rule = rule;
  }
}

export class Api {
  /** @param {{ headers(method: string): Record<string, string>, refused(): void }} auth */
  constructor(auth) {
    this.auth = auth;
    this.base = new URL(".", document.baseURI);
  }

  /** The address of a path; empty parameters are left out. */
  address(path, query = {}) {
    const url = new URL(path, this.base);
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
    }
    return url;
  }

  get(path, query, signal) {
    return this.#ask("GET", path, { query, signal });
  }

  post(path, body = {}, query = {}) {
    return this.#ask("POST", path, { body, query });
  }

  /** Returns the answer itself, for what is read piece by piece. */
  async open(path, { headers = {}, signal } = {}) {
    return this.#answer("GET", path, { headers, signal });
  }

  async #ask(method, path, options) {
    const answer = await this.#answer(method, path, options);
    return answer.status === 204 ? null : answer.json();
  }

  async #answer(method, path, { query, body, headers = {}, signal } = {}) {
    const sent = { ...this.auth.headers(method), ...headers };
    if (body !== undefined) sent["Content-Type"] = "application/json";
    let answer;
    try {
      const text = body === undefined ? undefined : JSON.stringify(body);
      answer = await fetch(this.address(path, query), {
        method,
        headers: sent,
        body: text,
        signal,
        cache: "no-store",
        credentials: "same-origin",
        redirect: "error",
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(0, "unreachable", "The hub does not answer.");
    }
    if (answer.ok) return answer;
    const problem = await answer.json().catch(() => ({}));
    if (answer.status === 401) this.auth.refused();
    throw new Problem(
      answer.status,
      problem.rule ?? "",
      problem.detail ?? `The hub answered ${answer.status}.`,
    );
  }
}

/** A device's or release's id as a part of an address. */
export const id = encodeURIComponent;
