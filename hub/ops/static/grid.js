// Draws devices as cells on a canvas: a hundred thousand in some ten milliseconds.

import { h, say } from "./dom.js";
import { CONDITIONS } from "./conditions.js";
import { colour } from "./theme.js";

const LETTERS = {
  quarantined: "Q",
  safe_mode: "M",
  drifted: "D",
  failing: "F",
  silent: "S",
  offline: "O",
  unknown: "?",
  degraded: "W",
  sleeping: "Z",
};
const HEIGHT = 460;
const [SMALLEST, LARGEST, LETTERED] = [3, 22, 13];

/**
 * Returns a canvas with a cell for each of `indices`, which goes by arrow keys as well.
 * @param {import("./inventory.js").Inventory} inventory
 * @param {{ key: string, label: string, places: Map<string, string>, hues: Map<string, { hue: string, letter: string }> | null, chosen(id: string): void, pointed(text: string): void }} options
 *   `hues` gives a colour and a letter by release; without, cells have those of their condition. `places` keeps, by
 *   `key`, the device that the arrow keys came to, so that a grid that is drawn anew goes on from there
 */
export function grid(inventory, indices, { key, label, places, hues, chosen, pointed }) {
  const canvas = h("canvas", { class: "grid", tabindex: 0, role: "img", "aria-label": label, "data-key": key });
  let size = LARGEST;
  let across = 1;
  let cursor = places.has(key) ? indices.findIndex((index) => inventory.ids[index] === places.get(key)) : -1;
  const named = (at) => {
    const index = indices[at];
    return `${inventory.ids[index]} · ${CONDITIONS[inventory.conditions[index]].label} · ${inventory.releases[index] ?? "no release"}`;
  };
  const draw = () => {
    const width = canvas.parentElement?.clientWidth ?? 0;
    if (!width) return;
    size = Math.max(SMALLEST, Math.min(LARGEST, Math.floor(Math.sqrt((width * HEIGHT) / indices.length))));
    across = Math.max(1, Math.floor(width / size));
    const height = Math.ceil(indices.length / across) * size;
    const ratio = devicePixelRatio || 1;
    canvas.width = across * size * ratio;
    canvas.height = height * ratio;
    canvas.style.setProperty("width", `${across * size}px`);
    canvas.style.setProperty("height", `${height}px`);
    paint(canvas.getContext("2d"), ratio);
  };
  const paint = (context, ratio) => {
    context.scale(ratio, ratio);
    const gap = size > 6 ? 2 : size > 3 ? 1 : 0.5;
    const place = (at) => [(at % across) * size, Math.floor(at / across) * size];
    for (const [hue, cells] of byHue(inventory, indices, hues)) {
      context.fillStyle = hue;
      for (const at of cells) {
        const [x, y] = place(at);
        context.fillRect(x, y, size - gap, size - gap);
      }
    }
    if (size >= LETTERED) {
      context.fillStyle = colour("surface");
      context.font = `700 ${Math.round(size * 0.55)}px system-ui, sans-serif`;
      context.textAlign = "center";
      context.textBaseline = "middle";
      indices.forEach((index, at) => {
        const letter = hues
          ? hues.get(inventory.releases[index])?.letter
          : LETTERS[inventory.conditions[index]];
        const [x, y] = place(at);
        if (letter) context.fillText(letter, x + (size - gap) / 2, y + (size - gap) / 2 + 0.5);
      });
    }
    if (cursor >= 0) {
      const [x, y] = place(cursor);
      context.strokeStyle = colour("ink");
      context.lineWidth = 2;
      context.strokeRect(x - 1, y - 1, size + 1, size + 1);
    }
  };
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / size);
    const index = Math.floor((event.clientY - box.top) / size) * across + column;
    return column >= 0 && column < across && index >= 0 && index < indices.length ? index : -1;
  };
  const move = (to) => {
    cursor = Math.max(0, Math.min(indices.length - 1, to));
    places.set(key, inventory.ids[indices[cursor]]);
    draw();
    pointed(named(cursor));
    say(named(cursor));
  };
  canvas.addEventListener("pointermove", (event) => {
    const found = at(event);
    canvas.style.setProperty("cursor", found < 0 ? "default" : "pointer");
    pointed(found < 0 ? "" : named(found));
  });
  canvas.addEventListener("pointerleave", () => pointed(""));
  canvas.addEventListener("click", (event) => at(event) >= 0 && chosen(inventory.ids[indices[at(event)]]));
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across };
    if (event.key in steps) {
      event.preventDefault();
      move(cursor < 0 ? 0 : cursor + steps[event.key]);
    } else if (event.key === "Enter" && cursor >= 0) {
      chosen(inventory.ids[indices[cursor]]);
    }
  });
  return { canvas, draw };
}

function byHue(inventory, indices, hues) {
  const found = new Map();
  const known = Object.fromEntries(Object.keys(CONDITIONS).map((name) => [name, colour(name)]));
  indices.forEach((index, at) => {
    const hue = hues
      ? (hues.get(inventory.releases[index])?.hue ?? known.unknown)
      : known[inventory.conditions[index]];
    if (!found.has(hue)) found.set(hue, []);
    found.get(hue).push(at);
  });
  return found;
}
