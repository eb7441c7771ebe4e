// Beside the list: the chosen GPU, and what fits right now.

import { count, make, swatch } from "./dom.js";
import { bySize, look } from "./profiles.js";
import { model, slices, word } from "./gpu.js";

let said = null;

/** What is on the chosen GPU; told anew only if it is another, for it may be read aloud. */
export function chosen(section, fleet, choice) {
  const node = choice && fleet.nodes.get(choice.node);
  const index = node?.gpus ? node.gpus.findIndex((gpu) => gpu.uuid === choice.gpu) : -1;
  const now = JSON.stringify([node?.name, node?.why, index, node?.gpus?.[index]]);
  if (now === said) return;
  said = now;
  const title = section.querySelector("h2");
  const body = section.querySelector(".body");
  section.querySelector(".acts").hidden = index < 0; // not drawn anew: who is about to press one goes on
  if (index < 0) {
    title.textContent = "GPU";
    body.replaceChildren(make("p", "hint", "Choose a GPU to see what is on it."));
    return;
  }
  const gpu = node.gpus[index];
  title.replaceChildren(`${node.name}, GPU ${index}`);
  const facts = make("dl", "facts");
  const fact = (name, value, classes = "") =>
    value && facts.append(make("dt", "", name), make("dd", classes, value));
  fact("Model", model(gpu));
  fact("PCI", `${gpu.pci}${(gpu.numa ?? -1) >= 0 ? `, NUMA ${gpu.numa}` : ""}`);
  fact("UUID", gpu.uuid);
  fact("GPU", gpu.why, "bad");
  fact("Node", node.why, "bad");
  const usable = (gpu.state ?? "usable") === "usable";
  const free = (gpu.free?.length ?? 0) + (gpu.unusable?.length ?? 0);
  fact("Free", free ? `${free} of ${gpu.slices} slices${usable ? unusable(gpu) : ", out of use"}` : `none of ${gpu.slices} slices`);
  const there = make("ul", "there");
  for (const each of gpu.instances ?? []) {
    there.append(
      make(
        "li", "",
        swatch(look(each.profile)),
        make("b", "", each.profile),
        make("span", "where", slices(each)),
        make("span", "whose", described(each)),
      ),
    );
  }
  body.replaceChildren(facts, there);
}

const unusable = (gpu) =>
  gpu.unusable?.length ? `, ${gpu.unusable.length} of them unusable: no profile fits there` : "";

function described(each) {
  const whose = each.vm ? `${each.namespace}/${each.vm}` : "";
  const tenant = each.tenant && each.tenant !== each.namespace ? `tenant ${each.tenant}` : "";
  return [whose, tenant, word(each)].filter(Boolean).join(" · ");
}

/** How many more of each profile fit on these nodes. */
export function fits(section, nodes, geometries) {
  const left = new Map();
  for (const { profiles } of Object.values(geometries)) {
    for (const { name } of profiles) left.set(name, 0);
  }
  for (const node of nodes) {
    for (const { profile, count: more } of node.fits ?? []) left.set(profile, (left.get(profile) ?? 0) + more);
  }
  const body = make("tbody");
  for (const name of [...left.keys()].sort(bySize)) {
    const head = make("th", "", swatch(look(name)), name);
    head.scope = "row";
    const more = left.get(name);
    body.append(make("tr", "", head, make("td", more ? "" : "none", more ? more.toLocaleString("en") : "none")));
  }
  const columns = ["Profile", "More of it, and nothing else"].map((text) => {
    const column = make("th", "", text);
    column.scope = "col";
    return column;
  });
  const title = section.querySelector("h2");
  title.replaceChildren("Fits right now", make("small", "", `on ${count(nodes.length, "node")}`));
  section.querySelector(".body").replaceChildren(
    make("table", "", make("thead", "", make("tr", "", ...columns)), body),
  );
}
