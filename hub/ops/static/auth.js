// Who uses the page: by a session of the browser where somebody logged in, else by an API token that this tab alone keeps.

import { h, put, byId } from "./dom.js";

const KEY = "flaghoist.token";
const RANKS = { viewer: 1, operator: 2, "release-manager": 3, admin: 4 };

export class Auth {
  #csrf = null;
  #asking = null;

  /** What goes into every request's headers. */
  headers(method) {
    const token = sessionStorage.getItem(KEY);
    if (token) return { Authorization: `Bearer ${token}` };
    return method !== "GET" && this.#csrf ? { "X-CSRF-Token": this.#csrf } : {};
  }

  get hasToken() {
    return sessionStorage.getItem(KEY) !== null;
  }

  /** Finds a session of this browser, if there is one. */
  async find(base) {
    if (this.hasToken) return;
    const answer = await fetch(new URL("session", base), { cache: "no-store" }).catch(() => null);
    if (answer?.ok) this.#csrf = (await answer.json()).csrf_token ?? null;
  }

  /** Whether people log in at an identity provider here: then the hub sends on to it. */
  async hasProvider(base) {
    const answer = await fetch(new URL("login?next=/", base), {
      redirect: "manual",
      cache: "no-store",
    }).catch(() => null);
    return answer?.type === "opaqueredirect";
  }

  /** Ends the session, or forgets the token. */
  async leave(api) {
    if (this.hasToken || this.#csrf === null) {
      this.forget();
      location.reload();
      return;
    }
    const { redirect } = await api.post("logout");
    location.assign(redirect ?? api.base);
  }

  /** The hub refused what was sent: ask anew, once. */
  refused() {
    this.#asking?.();
  }

  /** Resolves with a token that `check` accepts; shows why one was refused. */
  async ask(check, base, why = "") {
    const provided = await this.hasProvider(base);
    for (let message = why; ;) {
      const token = await this.#form(message, provided);
      sessionStorage.setItem(KEY, token);
      try {
        return await check();
      } catch (error) {
        if (error.status !== 0) sessionStorage.removeItem(KEY);
        message = error.message;
      }
    }
  }

  onRefused(listener) {
    this.#asking = listener;
  }

  forget() {
    sessionStorage.removeItem(KEY);
  }

  #form(message, provided) {
    return new Promise((resolve) => {
      const input = h("input", {
        id: "token",
        type: "password",
        autocomplete: "off",
        required: true,
        spellcheck: "false",
        "aria-describedby": "token-help",
      });
      const submit = (event) => {
        event.preventDefault();
        if (input.value.trim()) resolve(input.value.trim());
      };
      const form = h(
        "form",
        { class: "card login", on: { submit } },
        h("h1", {}, "Who are you?"),
        message && h("p", { class: "error", role: "alert" }, message),
        provided && [
          h("a", { class: "button main", href: "login?next=/" }, "Log in"),
          h("p", { class: "note" }, "or, with an API token:"),
        ],
        h("label", { for: "token" }, "API token"),
        input,
        h(
          "p",
          { id: "token-help", class: "note" },
          "The first admin's is in the file admin.token of the hub's data; others come from flaghoist api-key. ",
          "It is kept by this tab and forgotten when it closes.",
        ),
        h("button", { type: "submit", class: provided ? "" : "main" }, "Show the fleet"),
      );
      put(byId("main"), form);
      input.focus();
    });
  }
}

/** Whether a caller's role may do what needs `least`. */
export const may = (role, least) => (RANKS[role] ?? 0) >= RANKS[least];
