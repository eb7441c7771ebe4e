// What /api/v1/explain says of a pod, in sentences: what is missing, what would help, who refuses.

import { count, make } from "./dom.js";
import { slices } from "./gpu.js";

const LACKS = {
  waiting: () => "It waits for the pods it is placed together with.",
  offer: () => "No GPU here serves what it asks for.",
  nodes: () => "The nodes that could serve it take nothing new at the moment.",
  rules: () => "The policy's rules keep it from every place.",
  cap: () => "Its tenant has as much as it may have.",
  headroom: () => "What is free is kept free for others.",
  capacity: ({ needed, free }) => `It takes ${count(needed, "slice")}, and ${free} are free.`,
  fragmentation: ({ needed, free, mostFree }) =>
    `It takes ${count(needed, "slice")} in a row. ${free} are free, at most ${mostFree} of them on one GPU,` +
    " but not where its profile may sit.",
};

const spot = ({ node, gpu, start, size }) => `${node}, GPU ${gpu}, ${slices({ start, size })}`;
const named = ({ namespace, name }) => (name ? `${namespace}/${name}` : "somebody's VM");

/** The explanation as an element. */
export function rendered(told) {
  const element = make("div", "explanation");
  const say = (text, classes = "") => text && element.append(make("p", classes, text));
  if (told.missing) say(LACKS[told.missing.lack]?.(told.missing));
  if (told.room) element.append(...room(told.room));
  const others = (told.alternatives ?? []).map(
    ({ profile, nodes }) => `It would fit as ${profile} on ${count(nodes, "node")}.`,
  );
  if (others.length) element.append(list(others));
  for (const { why, instances } of told.staying ?? []) say(`Not moved: ${instances} × ${why}.`);
  if (told.rights?.tenant) element.append(list(rights(told.rights)));
  if (told.groups?.length) element.append(groups(told.groups));
  return element;
}

function room(told) {
  if (told.type === "no-moves") {
    const sure = told.proven ? "" : ", as far as was looked";
    return [make("p", "", `No ${count(told.most, "move")} of other VMs would make room${sure}.`)];
  }
  const steps = told.moves.map(
    (each) => `${named(each)} (${about(each)}) from ${spot(each.source)} to ${spot(each.target)}`,
  );
  const means = Object.keys(MEANING).filter((each) => told.moves.some((move) => move.means === each));
  const where = told.on.map(spot).join("; ");
  return [
    make("p", "helps", `It would fit on ${where} if ${count(steps.length, "VM")} moved, and nothing else:`),
    list(steps),
    ...(means.length ? [make("p", "", price(means))] : []),
  ];
}

const MEANING = {
  restart: "Moving a VM restarts it: vGPUs do not migrate live before KubeVirt 1.9",
  recreation: "Moving a pod ends it, for its controller to make another",
};

const price = (means) =>
  `${means.map((each) => MEANING[each]).join("; ")}.` +
  " Eviction strategies and PodDisruptionBudgets were not looked at.";

const about = ({ profile, priority, evictable }) =>
  profile + (priority ? `, priority ${priority}` : "") + (evictable === false ? ", not safe to evict" : "");

function* rights({ tenant, caps = [], headroom = [] }) {
  yield `Tenant: ${tenant}.`;
  for (const { profile, used, most, within } of caps) {
    const what = profile || "memory slices";
    yield `Has ${used} of ${most} ${what}${within ? "" : ": too few are left"}.`;
  }
  for (const { profile, pool, keep, free } of headroom) {
    yield `${keep} × ${profile} are kept free${pool ? ` in pool ${pool}` : ""}; ${free} are.`;
  }
}

function groups(told) {
  const said = [];
  for (const { pool, gpus, nodes, fits, reasons } of told) {
    const where = `${count(nodes, "node")} with ${gpus}${pool ? ` in pool ${pool}` : ""}`;
    said.push(
      make("dt", "", where),
      make("dd", "", list([
        ...(fits ? [`it fits on ${fits}`] : []),
        ...reasons.map((each) => `${each.text.replace(/^vGPU: /, "")}: ${each.nodes}, such as ${each.example}`),
      ])),
    );
  }
  return make("dl", "groups", ...said);
}

const list = (sentences) => make("ul", "", ...[...sentences].map((each) => make("li", "", each)));
