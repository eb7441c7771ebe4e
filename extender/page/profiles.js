// How a profile looks: a colour by its compute slices, a pattern by what else tells it apart.

const NAME = /^(\d+)g\.(\d+)gb(.*)$/;

/** The classes of a profile's blocks and swatches. */
export function look(name) {
  const read = NAME.exec(name);
  if (!read) return ["p0"];
  const compute = Number(read[1]);
  const classes = [`p${Math.min(compute, 5)}`];
  if (read[3].includes("gfx")) classes.push("graphics");
  else if (read[3].includes("me")) classes.push("media");
  else if (roomy.has(name)) classes.push("memory");
  return classes;
}

/** What there is room to write on a block that takes this share of its GPU: 2g, 2g.20 or 2g.20gb. */
export const written = (name, share) =>
  isNarrow(share) ? name.split(".")[0] : share < 0.3 ? name.replace("gb", "") : name;

/** Whether a block has no room for whose it is. */
export const isNarrow = (share) => share < 0.2;

const roomy = new Set();

/** Learn which profiles have more memory than the smallest with as many compute slices. */
export function learn(geometries) {
  for (const { profiles } of Object.values(geometries)) {
    const least = new Map();
    for (const { computeSlices, size } of profiles) {
      least.set(computeSlices, Math.min(size, least.get(computeSlices) ?? size));
    }
    for (const { name, computeSlices, size } of profiles) {
      if (size > least.get(computeSlices)) roomy.add(name);
    }
  }
}

/** Largest first, as people look for them. */
export function bySize(a, b) {
  const [x, y] = [NAME.exec(a), NAME.exec(b)];
  if (!x || !y) return a < b ? -1 : 1;
  return y[1] - x[1] || y[2] - x[2] || (a < b ? -1 : 1);
}
