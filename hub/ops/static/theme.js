// Light or dark: as the system says, until somebody says otherwise in this browser.

import { byId } from "./dom.js";

const KEY = "flaghoist.theme";
const NEXT = { auto: "light", light: "dark", dark: "auto" };
const SHOWN = { auto: "◐ Auto", light: "☀ Light", dark: "☾ Dark" };

/** Wires the switch, and follows what was chosen before. */
export function startTheme() {
  const button = byId("theme");
  const show = (theme) => {
    document.documentElement.dataset.theme = theme;
    button.textContent = SHOWN[theme];
    button.setAttribute("aria-label", `Colours: ${theme}. Switch to ${NEXT[theme]}.`);
    document.dispatchEvent(new Event("theme"));
  };
  const kept = localStorage.getItem(KEY);
  show(kept in NEXT ? kept : "auto");
  button.addEventListener("click", () => {
    const theme = NEXT[document.documentElement.dataset.theme];
    localStorage.setItem(KEY, theme);
    show(theme);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
    document.dispatchEvent(new Event("theme")),
  );
}

/** The present colour of a condition or other name of the style sheet, for what is drawn on a canvas. */
export const colour = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
