// The page put together: what is known, what is shown of it, and what people choose.

import { count, make, swatch } from "./dom.js";
import { Filters } from "./filters.js";
import { Fleet } from "./fleet.js";
import { List } from "./list.js";
import { PendingPods } from "./pending.js";
import { bySize, learn, look } from "./profiles.js";
import { Room } from "./room.js";
import { beside } from "./shadow.js";
import { chosen, fits } from "./side.js";
import { total } from "./sums.js";
import { follow } from "./theme.js";

const STATES = { live: "Live", lost: "Not live", wait: "Connecting" };
const by = (id) => document.getElementById(id);

follow(by("theme"));
const fleet = new Fleet();
const room = new Room(by("room"));
const pods = new PendingPods(by("pending"), fleet.query, (pod) => room.admit(pod));
const filters = new Filters(by("filters"), () => {
  list.anew();
  soon();
});
let choice = null;
const list = new List(by("grid"), filters, (made) => {
  choice = made;
  chosen(by("chosen"), fleet, choice);
});
by("chosen").querySelector(".acts").addEventListener("click", ({ target }) => {
  const node = choice && fleet.nodes.get(choice.node);
  if (node && target.dataset.drain) room.drain(target.dataset.drain, node, choice.gpu);
});
let due = null;

/** Show all that has changed, once in a frame however much that is. */
function soon() {
  due ??= requestAnimationFrame(() => {
    due = null;
    show();
  });
}

function show() {
  const nodes = [...fleet.nodes.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  const all = total(nodes);
  filters.offer(all, fleet.pending);
  const shown = nodes.filter((node) => filters.shows(node));
  list.show(shown);
  pods.show(filters.waiting(fleet.pending, nodes), fleet.pending.length, fleet.pendingTotal);
  fits(by("fits"), shown, fleet.geometries);
  chosen(by("chosen"), fleet, choice);
  sums(all);
  legend(all.profiles);
  shares(shown.length === nodes.length ? all : total(shown));
  by("shown").textContent =
    shown.length === nodes.length ? count(nodes.length, "node") : `${shown.length} of ${count(nodes.length, "node")}`;
  document.title = fleet.pendingTotal ? `Tangram (${fleet.pendingTotal} pending)` : "Tangram";
}

function sums(all) {
  const share = all.slices ? Math.round((100 * all.used) / all.slices) : 0;
  const shown = [
    ["Nodes", all.nodes.toLocaleString("en"), ""],
    ["GPUs", all.gpus.toLocaleString("en"), ""],
    ["Slices in use", `${share} %`, `of ${all.slices.toLocaleString("en")}`],
    ["Unusable slices", all.unusable.toLocaleString("en"), ""],
    ["Pending", fleet.pendingTotal.toLocaleString("en"), "", fleet.pendingTotal > 0],
    ["Nodes in trouble", all.trouble.toLocaleString("en"), "", all.trouble > 0],
  ];
  by("sums").replaceChildren(
    ...shown.map(([name, value, of, bad]) =>
      make("div", bad ? "bad" : "", make("dt", "", name), make("dd", "", `${value} `, of ? make("small", "", of) : "")),
    ),
  );
  const { whyNot, namespaces } = fleet.about;
  const said = [];
  if (whyNot) said.push(`No decision is made here: ${whyNot.replace(/^vGPU: /, "")}.`);
  if (namespaces) {
    const named = namespaces.length ? namespaces.join(", ") : "no namespace (add ?namespace=NAME)";
    said.push(`You see by name the VMs of ${named}; all others are slices in use.`);
  }
  notice(said.join(" "));
}

function notice(text) {
  const element = by("notice");
  element.hidden = !text;
  if (element.textContent !== text) element.textContent = text;
}

/** All slices of the nodes shown in one bar. */
function shares(of) {
  const parts = [...of.profiles].sort(([a], [b]) => bySize(a, b));
  const free = of.slices - of.used - of.unusable - of.shut;
  const part = (size, name, classes) => {
    const element = make("span", classes.join(" "));
    element.style.flex = `${size} 0 0`;
    element.title = `${name}: ${count(size, "slice")}`;
    return element;
  };
  const said = [...parts, ["free", free], ["unusable", of.unusable], ["out of use", of.shut]].filter(([, size]) => size > 0);
  by("shares").replaceChildren(
    ...said.map(([name, size]) => part(size, name, name in PLAIN ? PLAIN[name] : look(name))),
  );
  by("shares").setAttribute(
    "aria-label",
    `Slices of the nodes shown: ${said.map(([name, size]) => `${size} ${name}`).join(", ")}`,
  );
}

const PLAIN = { free: ["free"], unusable: ["unusable"], "out of use": ["shut"] };

let drawnLegend = "";

function legend(profiles) {
  const names = [...profiles.keys()].sort(bySize);
  if (names.join() === drawnLegend) return;
  drawnLegend = names.join();
  const entry = (classes, text) => make("li", "", swatch(classes), text);
  by("legend").replaceChildren(
    ...names.map((name) => entry(look(name), name)),
    entry(["free"], "free"),
    entry(["unusable"], "free, but no profile fits"),
    entry(["shut"], "out of use"),
  );
}

fleet.addEventListener("change", () => {
  learn(fleet.geometries);
  soon();
});
fleet.addEventListener("state", ({ detail }) => {
  by("live").dataset.state = detail;
  by("live").textContent = STATES[detail];
});
fleet.addEventListener("refused", ({ detail }) => notice(detail));
fleet.load();
beside(by("shadow"), fleet);
