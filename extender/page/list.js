// The list of nodes: only the rows in sight exist, however many nodes there are.

import { make, count } from "./dom.js";
import { cell, model } from "./gpu.js";

const BEYOND_PX = 300; // drawn above and below what is in sight, so that scrolling shows no gaps
const WARNINGS = new Set(["cordoned", "unsettled", "unmanaged", "static-layout"]);

export class List {
  constructor(grid, filters, choose) {
    this.grid = grid;
    this.filters = filters;
    this.choose = choose;
    this.nodes = [];
    this.rows = new Map();
    this.drawn = new WeakMap();
    this.active = null; // the cell that Tab comes to: { name, gpu }
    this.chosen = null; // the UUID of the GPU that is shown beside
    this.sheet = make("div", "sheet");
    this.sheet.setAttribute("role", "presentation");
    grid.append(this.sheet);
    grid.addEventListener("scroll", () => this.soon(), { passive: true });
    grid.addEventListener("keydown", (event) => this.key(event));
    grid.addEventListener("click", (event) => this.click(event));
    new ResizeObserver(() => this.measure()).observe(grid);
  }

  /** Show these nodes, in this order. */
  show(nodes) {
    this.nodes = nodes;
    this.at = new Map(nodes.map((node, index) => [node.name, index]));
    this.grid.setAttribute("aria-rowcount", nodes.length);
    if (!this.active || !this.at.has(this.active.name)) {
      const first = nodes.find((node) => node.gpus?.length);
      this.active = first ? { name: first.name, gpu: 0 } : null;
    }
    this.measure();
  }

  /** Where each row is: rows are as high as their GPUs need. */
  measure() {
    const style = getComputedStyle(this.grid);
    const px = (name) => parseFloat(style.getPropertyValue(name));
    const gap = px("--cell-gap");
    const room = this.grid.clientWidth - px("--head-width") - 12 - 28;
    const columns = Math.max(1, Math.floor((room + gap) / (px("--cell-width") + gap)));
    const widest = this.nodes.reduce((most, node) => Math.max(most, node.gpus?.length ?? 0), 1);
    this.columns = balanced(Math.min(columns, widest), widest);
    this.grid.style.setProperty("--columns", this.columns);
    this.grid.setAttribute("aria-colcount", widest + 1);
    this.tops = new Float64Array(this.nodes.length + 1);
    this.nodes.forEach((node, index) => {
      const lines = Math.max(1, Math.ceil((node.gpus?.length ?? 0) / this.columns));
      const height = lines * (px("--cell-height") + gap) - gap + 2 * px("--row-padding") + 1;
      this.tops[index + 1] = this.tops[index] + height;
    });
    this.sheet.style.height = `${this.tops[this.nodes.length]}px`;
    this.none ??= nothing();
    if (this.nodes.length) this.none.remove();
    else this.sheet.append(this.none);
    this.draw();
  }

  soon() {
    this.due ??= requestAnimationFrame(() => {
      this.due = null;
      this.draw();
    });
  }

  /** Draw what is in sight, and the row that has the focus. */
  draw() {
    const top = this.grid.scrollTop - BEYOND_PX;
    const bottom = this.grid.scrollTop + this.grid.clientHeight + BEYOND_PX;
    const wanted = new Set();
    for (let at = this.first(top); at < this.nodes.length && this.tops[at] < bottom; at += 1) {
      wanted.add(this.nodes[at].name);
    }
    if (this.active) wanted.add(this.active.name);
    for (const [name, row] of this.rows) {
      if (wanted.has(name)) continue;
      row.remove();
      this.rows.delete(name);
    }
    for (const name of wanted) this.place(name);
  }

  first(top) {
    let low = 0;
    let high = this.nodes.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.tops[middle + 1] <= top) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Put a node's row where it belongs; draw it anew only if the node is another. */
  place(name) {
    const index = this.at.get(name);
    const node = this.nodes[index];
    let row = this.rows.get(name);
    const before = row && this.drawn.get(row);
    if (!row || before.node !== node || before.edition !== this.edition) {
      const fresh = this.row(node, before?.node);
      this.drawn.set(fresh, { node, edition: this.edition });
      if (row) {
        const focused = row.contains(document.activeElement);
        row.replaceWith(fresh);
        if (focused) fresh.querySelector('[tabindex="0"]')?.focus({ preventScroll: true });
      } else {
        this.sheet.append(fresh);
      }
      this.rows.set(name, (row = fresh));
    }
    row.style.transform = `translateY(${this.tops[index]}px)`;
    row.style.height = `${this.tops[index + 1] - this.tops[index]}px`;
    row.setAttribute("aria-rowindex", index + 1);
  }

  /** Have every row drawn anew when next shown: what filters single out is another. */
  anew() {
    this.edition = {};
  }

  row(node, before) {
    const state = node.state ?? "ready";
    const row = make("div", state === "stale" ? "node stale" : "node", head(node, state));
    row.setAttribute("role", "row");
    row.dataset.node = node.name;
    const gpus = make("div", "gpus");
    gpus.setAttribute("role", "presentation");
    const means = (instance) => this.filters.means(instance, node);
    (node.gpus ?? []).forEach((gpu, index) => {
      const element = cell(node, gpu, index, before?.gpus?.[index], means);
      if (this.active?.name === node.name && this.active.gpu === index) element.tabIndex = 0;
      if (gpu.uuid === this.chosen) element.setAttribute("aria-selected", "true");
      gpus.append(element);
    });
    row.append(gpus);
    return row;
  }

  click(event) {
    const element = event.target.closest(".gpu");
    if (!element) return;
    const node = this.nodes[this.at.get(element.closest(".node").dataset.node)];
    const gpu = node.gpus.findIndex((each) => each.uuid === element.dataset.gpu);
    this.activate(node.name, gpu);
    this.choice(node, gpu);
  }

  key(event) {
    if (!this.active || event.altKey || event.metaKey) return;
    const row = this.at.get(this.active.name);
    const last = this.nodes[row].gpus.length - 1;
    const page = Math.max(1, Math.floor(this.grid.clientHeight / (this.tops[row + 1] - this.tops[row])) - 1);
    const { gpu } = this.active;
    const end = this.nodes.length - 1;
    const moves = {
      ArrowRight: () => (gpu < last ? [row, gpu + 1] : [row + 1, 0]),
      ArrowLeft: () => (gpu > 0 ? [row, gpu - 1] : [row - 1, Infinity]),
      ArrowDown: () => (gpu + this.columns <= last ? [row, gpu + this.columns] : [row + 1, gpu % this.columns]),
      ArrowUp: () => (gpu >= this.columns ? [row, gpu - this.columns] : [row - 1, Infinity, gpu % this.columns]),
      PageDown: () => [Math.min(end, row + page), gpu],
      PageUp: () => [Math.max(0, row - page), gpu],
      Home: () => (event.ctrlKey ? [0, 0] : [row, 0]),
      End: () => (event.ctrlKey ? [end, Infinity] : [row, last]),
      Enter: () => this.choice(this.nodes[row], gpu),
      " ": () => this.choice(this.nodes[row], gpu),
      Escape: () => this.choice(null),
    };
    const move = moves[event.key]?.();
    if (!(event.key in moves)) return;
    event.preventDefault();
    if (!move) return;
    this.move(move, move[0] < row ? -1 : 1);
  }

  /** Go to a cell; nodes without GPUs are passed over. */
  move([row, gpu, column], step) {
    while (this.nodes[row] && !this.nodes[row].gpus?.length) row += step;
    if (!this.nodes[row]) return;
    const last = this.nodes[row].gpus.length - 1;
    let to = Math.min(gpu, last);
    if (column !== undefined) {
      const start = last - (last % this.columns);
      to = start + column <= last ? start + column : Math.max(0, start - this.columns + column);
    }
    const before = this.active;
    this.active = { name: this.nodes[row].name, gpu: to };
    this.reveal(row);
    this.draw();
    this.activate(this.active.name, to, before);
    this.rows.get(this.active.name).querySelectorAll(".gpu")[to].focus({ preventScroll: true });
  }

  reveal(row) {
    const [top, bottom] = [this.tops[row], this.tops[row + 1]];
    if (top < this.grid.scrollTop) this.grid.scrollTop = top;
    else if (bottom > this.grid.scrollTop + this.grid.clientHeight) {
      this.grid.scrollTop = bottom - this.grid.clientHeight;
    }
  }

  activate(name, gpu, before = this.active) {
    const was = before && this.rows.get(before.name)?.querySelectorAll(".gpu")[before.gpu];
    if (was) was.tabIndex = -1;
    this.active = { name, gpu };
    const now = this.rows.get(name)?.querySelectorAll(".gpu")[gpu];
    if (now) now.tabIndex = 0;
  }

  choice(node, gpu) {
    this.chosen = node ? node.gpus[gpu].uuid : null;
    for (const element of this.sheet.querySelectorAll(".gpu")) {
      element.setAttribute("aria-selected", String(element.dataset.gpu === this.chosen));
    }
    this.choose(node ? { node: node.name, gpu: this.chosen } : null);
  }
}

/** The fewest columns with which so many GPUs need no more lines: 8 in at most 5 make 2 × 4. */
const balanced = (columns, gpus) => Math.ceil(gpus / Math.ceil(gpus / columns));

function nothing() {
  const cell = make("div", "empty", "No node matches the filters.");
  cell.setAttribute("role", "gridcell");
  const row = make("div", "", cell);
  row.setAttribute("role", "row");
  return row;
}

function head(node, state) {
  const element = make("div", "head", make("b", "", node.name));
  element.setAttribute("role", "rowheader");
  element.setAttribute("aria-colindex", "1");
  element.title = node.why ? `${node.name}\n${node.why}` : node.name;
  if (state !== "ready") {
    const badge = make("span", WARNINGS.has(state) ? "badge warn" : "badge", state.replace("-", " "));
    badge.title = node.why ?? "";
    element.append(badge);
  }
  const models = [...new Set((node.gpus ?? []).map(model))];
  element.append(make("span", "", `${count(node.gpus?.length ?? 0, "GPU")} · ${models.join(", ") || "none"}`));
  return element;
}
