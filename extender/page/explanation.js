// What /api/v1/explain says of a pod: its sentences, and how each group of nodes stands.

import { count, make } from "./dom.js";

/** The explanation as an element. */
export function rendered({ sentences, groups }) {
  const element = make("div", "explanation", ...sentences.map((each) => make("p", "", each)));
  if (groups.length) element.append(list(groups));
  return element;
}

function list(groups) {
  const said = [];
  for (const { pool, gpus, nodes, fits, reasons } of groups) {
    const verdicts = [
      ...(fits ? [`it fits on ${fits}`] : []),
      ...reasons.map((each) => `${each.text.replace(/^vGPU: /, "")}: ${each.nodes}, such as ${each.example}`),
    ];
    said.push(
      make("dt", "", `${count(nodes, "node")} with ${gpus}${pool ? ` in pool ${pool}` : ""}`),
      make("dd", "", make("ul", "", ...verdicts.map((each) => make("li", "", each)))),
    );
  }
  return make("dl", "groups", ...said);
}
