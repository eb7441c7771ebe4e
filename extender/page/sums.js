// What a node comes to, worked out once for each state of it: lists of thousands are summed often.

const known = new WeakMap();

/** Whose an instance is, as people filter by it. */
export const tenantOf = (instance) => instance.tenant || instance.namespace || "";

/** What is on a node: slices in all, in use, unusable, on GPUs out of use, and by profile. */
export function sums(node) {
  let found = known.get(node);
  if (found) return found;
  found = {
    gpus: 0, slices: 0, used: 0, unusable: 0, shut: 0, trouble: (node.state ?? "ready") !== "ready",
    models: new Set(), tenants: new Set(), profiles: new Map(), names: [node.name.toLowerCase()],
  };
  for (const gpu of node.gpus ?? []) {
    found.gpus += 1;
    found.slices += gpu.slices;
    const usable = (gpu.state ?? "usable") === "usable";
    const unusable = gpu.unusable?.length ?? 0;
    found[usable ? "unusable" : "shut"] += unusable;
    found.used += gpu.slices - (gpu.free?.length ?? 0) - unusable;
    found.models.add(gpu.model);
    if (gpu.state === "unhealthy" || gpu.state === "unreadable") found.trouble = true;
    for (const each of gpu.instances ?? []) {
      found.profiles.set(each.profile, (found.profiles.get(each.profile) ?? 0) + each.size);
      const tenant = tenantOf(each);
      if (tenant) found.tenants.add(tenant);
      if (each.vm) found.names.push(each.vm.toLowerCase());
      if (each.state === "failed") found.trouble = true;
    }
  }
  known.set(node, found);
  return found;
}

/** The sums of many nodes. */
export function total(nodes) {
  const all = {
    nodes: 0, gpus: 0, slices: 0, used: 0, unusable: 0, shut: 0, trouble: 0,
    models: new Set(), tenants: new Set(), profiles: new Map(),
  };
  for (const node of nodes) {
    const one = sums(node);
    all.nodes += 1;
    all.gpus += one.gpus;
    all.slices += one.slices;
    all.used += one.used;
    all.unusable += one.unusable;
    all.shut += one.shut;
    all.trouble += one.trouble ? 1 : 0;
    for (const each of one.models) all.models.add(each);
    for (const each of one.tenants) all.tenants.add(each);
    for (const [name, size] of one.profiles) all.profiles.set(name, (all.profiles.get(name) ?? 0) + size);
  }
  return all;
}
