// One GPU: its memory slices to scale, and what sits on them.

import { make } from "./dom.js";
import { isNarrow, look, written } from "./profiles.js";
import { tenantOf } from "./sums.js";

const STATES = {
  starting: "starting",
  failed: "could not be made",
  reserved: "reserved",
  releasing: "being released",
  standing: "standing free",
  foreign: "not Tangram's",
  "in-use": "in use",
};

/** A GPU's model without what every model has. */
export const model = (gpu) => gpu.model.replace(/^NVIDIA /, "").replace(/ HBM\d.*$/, "");

/** "slice 2" or "slices 4–7". */
export const slices = ({ start, size }) =>
  size === 1 ? `slice ${start}` : `slices ${start}–${start + size - 1}`;

/** Whose an instance is, in words. */
export function whose(instance) {
  if (instance.vm) return `${instance.vm} of ${tenantOf(instance)}`;
  return STATES[instance.state] ?? "";
}

/** A state that is worth a word: running is as it should be. */
export const word = (instance) => STATES[instance.state] ?? "running";

/** The cell of a GPU; *before* is the GPU as it was drawn last, *means* what filters single out. */
export function cell(node, gpu, index, before, means) {
  const element = make("div", "gpu");
  element.setAttribute("role", "gridcell");
  element.setAttribute("aria-colindex", index + 2);
  element.setAttribute("aria-label", label(gpu, index));
  element.setAttribute("aria-selected", "false");
  element.tabIndex = -1;
  element.dataset.gpu = gpu.uuid;
  const free = gpu.free?.length ?? 0;
  const trouble = gpu.state ?? "usable";
  const name = make("div", "name", make("span", "", `GPU ${index}`));
  if (trouble !== "usable") name.append(make("span", "bad", trouble.replace("-", " ")));
  else name.append(make("span", "", free ? `${free} free` : ""));
  name.setAttribute("aria-hidden", "true");
  element.append(name, bar(node, gpu, before, means));
  return element;
}

/** A GPU's memory slices, to scale, with nothing on them yet. */
export function track(slices, classes = "") {
  const element = make("div", `bar ${classes}`.trim());
  element.style.gridTemplateColumns = `repeat(${slices}, minmax(0, 1fr))`;
  return element;
}

/** Put an element on slices of a track. */
export function put(track, child, start, size) {
  child.style.gridColumn = `${start + 1} / span ${size}`;
  child.style.gridRow = "1";
  child.dataset.start = start;
  child.dataset.size = size;
  track.append(child);
}

function bar(node, gpu, before, means) {
  const shut = (gpu.state ?? "usable") !== "usable";
  const element = track(gpu.slices, shut ? "shut" : "");
  element.setAttribute("aria-hidden", "true");
  const was = before && new Set(before.instances?.map(identity));
  for (const at of gpu.free ?? []) put(element, make("span", "slice"), at, 1);
  for (const at of gpu.unusable ?? []) put(element, make("span", "slice unusable"), at, 1);
  for (const instance of gpu.instances ?? []) {
    const child = block(gpu, instance);
    if (!means(instance, node)) child.classList.add("dim");
    if (was && !was.has(identity(instance))) child.classList.add("new");
    put(element, child, instance.start, instance.size);
  }
  return element;
}

const identity = ({ start, size, profile, pod }) => `${start} ${size} ${profile} ${pod}`;

function block(gpu, instance) {
  const share = instance.size / gpu.slices;
  const classes = ["block", instance.state, ...look(instance.profile)];
  if (isNarrow(share)) classes.push("narrow");
  const profile = make("b", "", written(instance.profile, share));
  const second = isNarrow(share) ? "" : instance.vm || STATES[instance.state] || "";
  const element = make("span", classes.join(" "), profile, make("i", "", second));
  element.dataset.profile = instance.profile;
  if (instance.vm) element.dataset.vm = instance.vm;
  element.title = `${instance.profile}, ${slices(instance)}\n${whose(instance)}\n${word(instance)}`;
  return element;
}

/** What a GPU holds, for who cannot see it. */
export function label(gpu, index) {
  const parts = [`GPU ${index}, ${model(gpu)}`];
  if (gpu.why) parts.push(gpu.why);
  for (const each of gpu.instances ?? []) {
    parts.push(`${each.profile} at ${slices(each)}: ${whose(each)}, ${word(each)}`);
  }
  const free = gpu.free?.length ?? 0;
  const unusable = gpu.unusable?.length ?? 0;
  parts.push(`${free} free${unusable ? `, ${unusable} unusable` : ""}`);
  return parts.join("; ");
}
