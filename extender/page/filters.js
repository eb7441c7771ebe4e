// Which nodes are shown, and which instances on them stand out.

import { sums, tenantOf } from "./sums.js";
import { bySize } from "./profiles.js";

const FIELDS = ["text", "model", "tenant", "profile", "state"];

export class Filters {
  constructor(form, changed) {
    this.form = form;
    const asked = new URLSearchParams(location.search);
    for (const field of FIELDS) {
      if (!asked.has(field)) continue;
      const input = form.elements[field];
      if (input.tagName === "SELECT") offer(input, [asked.get(field)]);
      input.value = asked.get(field);
    }
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => this.keep(changed));
    form.addEventListener("reset", () => setTimeout(() => this.keep(changed)));
    addEventListener("keydown", (event) => {
      if (event.key !== "/" || event.ctrlKey || event.metaKey || /INPUT|SELECT/.test(event.target.tagName)) return;
      event.preventDefault();
      form.elements.text.focus();
    });
    this.read();
  }

  read() {
    for (const field of FIELDS) this[field] = this.form.elements[field].value;
    this.text = this.text.trim().toLowerCase();
  }

  /** Keep the filters in the address, so that a link shows the same. */
  keep(changed) {
    this.read();
    const address = new URL(location.href);
    for (const field of FIELDS) {
      if (this[field]) address.searchParams.set(field, this[field]);
      else address.searchParams.delete(field);
    }
    history.replaceState(null, "", address);
    changed();
  }

  /** Offer what there is to choose from, on the nodes and among the pods that wait. */
  offer({ models, tenants, profiles }, pods) {
    const wanted = pods.flatMap((pod) => pod.profiles ?? []);
    offer(this.form.elements.model, [...models].sort());
    offer(this.form.elements.tenant, [...new Set([...tenants, ...pods.map(tenantOf)])].sort());
    offer(this.form.elements.profile, [...new Set([...profiles.keys(), ...wanted])].sort(bySize));
  }

  shows(node) {
    const has = sums(node);
    return (
      (!this.text || has.names.some((name) => name.includes(this.text))) &&
      (!this.model || has.models.has(this.model)) &&
      (!this.tenant || has.tenants.has(this.tenant)) &&
      (!this.profile || has.profiles.has(this.profile)) &&
      (!this.state || has.trouble === (this.state === "trouble")) &&
      (!this.tenant || !this.profile || this.both(node))
    );
  }

  both(node) {
    return node.gpus.some((gpu) => gpu.instances?.some((each) => this.means(each, node)));
  }

  /** Whether an instance is what the filters are about; all are where they name nothing. */
  means(instance, node) {
    return (
      (!this.tenant || tenantOf(instance) === this.tenant) &&
      (!this.profile || instance.profile === this.profile) &&
      (!this.text || node.name.toLowerCase().includes(this.text) ||
        (instance.vm ?? "").toLowerCase().includes(this.text))
    );
  }

  /** Those of the pods that wait that the filters are about: what only nodes have keeps none back. */
  waiting(pods, nodes) {
    const aboutNodes = nodes.some((node) => node.name.toLowerCase().includes(this.text));
    return pods.filter(
      (pod) =>
        (!this.tenant || tenantOf(pod) === this.tenant) &&
        (!this.profile || pod.profiles?.includes(this.profile)) &&
        (aboutNodes || `${pod.vm ?? ""} ${pod.pod}`.toLowerCase().includes(this.text)),
    );
  }
}

function offer(select, values) {
  const there = [...select.options].map((option) => option.value).filter(Boolean);
  const chosen = select.value;
  const wanted = chosen && !values.includes(chosen) ? [...values, chosen] : values;
  if (there.length === wanted.length && there.every((each, at) => each === wanted[at])) return;
  select.replaceChildren(select.options[0], ...wanted.map((each) => new Option(each, each)));
  select.value = chosen;
}
