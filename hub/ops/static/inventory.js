// Every device of the fleet in a few arrays: what the grid draws and the search looks through.

const PAGE = 10_000;
/** More than this is not loaded at once; filters by role and segment are for larger fleets. */
export const MOST = 300_000;

/** Devices in the order of the hub: ids, the names of their conditions, releases, and the groups they lie in. */
export class Inventory {
  constructor() {
    this.ids = [];
    this.conditions = [];
    this.releases = [];
    this.groups = [];
    this.isWhole = true;
  }

  /** Fetches all devices of a filter, page by page. Raises `Problem`. */
  static async load(api, { role, segment }, signal) {
    const found = new Inventory();
    for (let cursor = null; ;) {
      const page = await api.get("fleet/grid", { role, segment, limit: PAGE, cursor }, signal);
      page.blocks.forEach((block) => found.#add(block, page));
      cursor = page.next_cursor;
      if (cursor === null) return found;
      if (found.ids.length >= MOST) {
        found.isWhole = false;
        return found;
      }
    }
  }

  #add(block, page) {
    const last = this.groups.at(-1);
    const begin = this.ids.length;
    const ids = block.ids.split(" ");
    for (let at = 0; at < ids.length; at++) {
      this.ids.push(ids[at]);
      this.conditions.push(page.letters[block.conditions[at]]);
      this.releases.push(page.releases[block.running[at]] ?? null);
    }
    if (last && last.role === block.role && last.segment === block.segment) last.end = this.ids.length;
    else this.groups.push({ role: block.role, segment: block.segment, begin, end: this.ids.length });
  }

  /** Indices of the devices that a condition and a part of an id or release let through, by group. */
  select({ condition, text }) {
    const wanted = text.trim().toLowerCase();
    const takes = (at) =>
      (!condition || matches(condition, this.conditions[at])) &&
      (!wanted || this.ids[at].includes(wanted) || (this.releases[at] ?? "").includes(wanted));
    return this.groups
      .map((group) => {
        const indices = [];
        for (let at = group.begin; at < group.end; at++) if (takes(at)) indices.push(at);
        return { ...group, indices };
      })
      .filter((group) => group.indices.length);
  }
}

/** "trouble" is whatever asks for somebody. */
function matches(wanted, condition) {
  return wanted === condition || (wanted === "trouble" && !["online", "sleeping"].includes(condition));
}
