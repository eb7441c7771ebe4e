// What /api/v1/moves says: what of a goal is attained, the moves in order, the slices before and after.

import { count, make, swatch } from "./dom.js";
import { put, slices, track } from "./gpu.js";
import { isNarrow, look, written } from "./profiles.js";

/** What came of it: "good", "warn" or "bad", and a sentence. */
export function verdict({ outcome, moves, asked, attained }) {
  if (outcome === "infeasible") return ["bad", "No moves attain that."];
  if (outcome === "unknown") return ["warn", "No plan was found; there may be one."];
  if (!moves.length) return ["good", "Nothing has to move: there is room as it is."];
  const order = moves.length === 1 ? "1 move" : `${count(moves.length, "move")}, in this order`;
  return attained < asked ? ["warn", `${order}; ${asked - attained} of ${asked} stay.`] : ["good", `${order}.`];
}

/** All there is to say beyond that, as elements. */
export function planned(said) {
  const elements = [];
  const part = (title, ...children) => {
    const section = make("section", "", make("h3", "", title), ...children);
    elements.push(section);
  };
  if (said.obstacles.length) {
    const title = said.outcome === "plan" ? "Who stays, and why" : "Why not";
    part(title, make("ul", "obstacles", ...said.obstacles.map((each) => make("li", "", obstacle(each)))));
  }
  if (said.outcome === "plan" && said.warnings.length) {
    part("Before that", make("ul", "warnings", ...said.warnings.map((each) => make("li", "", sentence(each)))));
  }
  if (said.moves.length || said.places.length) {
    const nearest = said.outcome === "plan" ? "" : `, the nearest to it: ${said.attained} of ${said.asked}`;
    part(`Moves${nearest}`, make("ol", "moves", ...said.moves.map(move), ...said.places.map(place)));
  }
  if (said.gpus.length) part("Memory slices before and after", make("ul", "maps", ...said.gpus.map(map)), key());
  elements.push(make("p", "hint", account(said)));
  return elements;
}

const HOW = {
  eviction: "stops, and starts there",
  restart: "stops past its disruption budget, and starts there",
  "live-migration": "runs on while it moves",
};

function move({ number, vm, profile, source, target, how, price, otherwise }) {
  return make(
    "li", "",
    badge(number),
    make("b", "", who(vm)),
    make("span", "profile", swatch(look(profile)), profile),
    make("span", "way", make("span", "", spot(source)), make("span", "", `→ ${spot(target)}`)),
    make("span", "how", [HOW[how] ?? how, ...(price ? [paid(price)] : []), ...(otherwise ? [instead(otherwise)] : [])].join("; ")),
  );
}

function paid({ weight, each, added, hours }) {
  const aged = added ? `, ${added} for ${hours} hours there` : "";
  return `costs ${weight * each + added}: ${each} for each of ${count(weight, "memory slice")}${aged}`;
}

/** Why this VM and not another. */
function instead({ attained, moves, cost, vms }) {
  if (!attained) return "if it stayed, no plan would do";
  const names = vms.slice(0, 3).map(who);
  if (vms.length > 3) names.push(`${vms.length - 3} more`);
  const whom = names.length ? `${names.join(" and ")} would move` : "the others would move otherwise";
  if (moves) return `if it stayed, ${whom}: ${count(moves, "move")} more`;
  return `if it stayed, ${whom} at ${cost ? `${cost} more` : "the same cost"}`;
}

function place({ number, pod, profile, on }) {
  return make(
    "li", "",
    badge(number),
    make("b", "", pod.name ? who(pod) : `room for ${profile}`),
    make("span", "profile", swatch(look(profile)), profile),
    make("span", "way", make("span", "", `then on ${spot(on)}`)),
  );
}

const badge = (number) => make("span", "number", String(number));

/** A VM by its name, and its tenant, where the reader may know it. */
function who({ namespace, name, tenant }) {
  if (!name) return "a VM of another namespace";
  return tenant ? `${namespace}/${name} of ${tenant}` : `${namespace}/${name}`;
}

const spot = (on) => `${on.node}, GPU ${on.gpu}, ${slices(on)}`;

function obstacle({ why, vm, on, what, missing, answer }) {
  const said = answer ? ` (${answer})` : "";
  if (on) return `${vm?.name ? who(vm) : "Something"} on ${spot(on)} cannot go: ${why}${said}.`;
  const lacks = missing ? `${missing} x ${what}` : what;
  return lacks ? `${lacks}: ${why}.` : sentence(why);
}

const sentence = (text) => `${text.slice(0, 1).toUpperCase()}${text.slice(1)}.`;

function map(gpu) {
  return make(
    "li", "",
    make("span", "name", `${gpu.node}, GPU ${gpu.gpu}`),
    drawn(gpu, "Before", gpu.before),
    make("span", "to", "→"),
    drawn(gpu, "After", gpu.after),
  );
}

/** A GPU as the list draws it, with those in colour that move or come. */
function drawn(gpu, when, cells) {
  const element = track(gpu.slices);
  const taken = new Set();
  for (const cell of cells) {
    const share = cell.size / gpu.slices;
    const classes = ["block", ...look(cell.profile), cell.number ? "moving" : "stays"];
    if (isNarrow(share)) classes.push("narrow");
    const label = make("b", "", written(cell.profile, share));
    put(element, make("span", classes.join(" "), label, make("i", "", cell.number ? `${cell.number}` : "")), cell.start, cell.size);
    for (let at = cell.start; at < cell.start + cell.size; at += 1) taken.add(at);
  }
  for (let at = 0; at < gpu.slices; at += 1) {
    if (!taken.has(at)) put(element, make("span", "slice"), at, 1);
  }
  const told = cells.map((cell) => `${cell.profile} at ${slices(cell)}${cell.number ? `, number ${cell.number}` : ", stays"}`);
  element.setAttribute("role", "img");
  element.setAttribute("aria-label", `${when}: ${[...told, `${gpu.slices - taken.size} free`].join("; ")}`);
  return element;
}

const key = () => make("p", "hint", "Numbers and full colours: who moves, and what comes. Faded: what stays.");

function account({ moves, cost, optimal, leastMoves, leastCost, budgets, nodes, policy, policyVersion }) {
  const least = leastCost === null ? "" : ` or, with as few, costs less than ${leastCost}`;
  const bound = optimal ? "no plan is better (proven)" : `no plan takes fewer than ${leastMoves}${least} (proven)`;
  const stops = `It costs ${cost} by the policy's moves.costs; ${bound}.`;
  const looked = budgets
    ? "Disruption budgets were looked up."
    : "Disruption budgets were not looked up: the API server holds to them at an eviction.";
  const about = `${count(nodes, "node")} looked at. Policy ${policy}, version ${policyVersion}.`;
  return [moves.length ? stops : "", looked, about, "Nothing was moved."].filter(Boolean).join(" ");
}
