// Elements are made here and nowhere else. Text is always a text node, so that nothing a device says becomes markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Returns an HTML element.
 * @param {string} name
 * @param {Record<string, any>} [attributes] null and false are left out; `on` maps events to listeners, `style` maps
 *   properties of CSS, which the page's policy lets scripts set one by one.
 * @param {...any} children elements, texts, arrays of them; null and false are left out
 */
export function h(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** Returns an SVG element; as `h`. */
export function s(name, attributes, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (key === "style") {
      for (const [property, text] of Object.entries(value)) element.style.setProperty(property, text);
    } else if (key === "value") {
      element.value = value;
    } else {
      element.setAttribute(key, value === true ? "" : String(value));
    }
  }
  element.append(...flat(children));
  return element;
}

function flat(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/**
 * Puts children in place of an element's own. Focus stays where it was, if what had it comes again: an element is known
 * by its `data-key` or its address.
 */
export function put(parent, ...children) {
  const focused = parent.contains(document.activeElement) ? keyOf(document.activeElement) : null;
  const open = new Set([...parent.querySelectorAll("details[open]")].map(keyOf));
  parent.replaceChildren(...flat(children));
  for (const details of parent.querySelectorAll("details")) if (open.has(keyOf(details))) details.open = true;
  if (focused)
    [...parent.querySelectorAll("a, button, input, select, summary, canvas")]
      .find((each) => keyOf(each) === focused)
      ?.focus();
  return parent;
}

const drawn = new WeakMap();

/**
 * Puts what `make` returns into an element, unless it was made of the same data the last time: what nobody changed is
 * not taken from under somebody's pointer.
 */
export function draw(parent, data, make) {
  const text = JSON.stringify(data);
  if (drawn.get(parent) === text) return;
  drawn.set(parent, text);
  put(parent, make());
}

function keyOf(element) {
  return element.dataset?.key ?? element.getAttribute("href") ?? element.id;
}

/** Returns the page's own element with an id. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`The page has no element ${id}.`);
  return found;
}

/** Tells people who listen rather than look. */
export function say(text) {
  byId("said").textContent = text;
}
