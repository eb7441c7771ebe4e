// The pods that wait, and why: in short at once, explained when opened.

import { make } from "./dom.js";
import { rendered } from "./explanation.js";
import { tenantOf } from "./sums.js";

/** Shows pods; what is open stays open while others come and go. */
export class PendingPods {
  constructor(section, query) {
    this.title = section.querySelector("h2");
    this.body = section.querySelector(".body");
    this.query = query;
    this.items = new Map();
    setInterval(() => this.ages(), 5000);
  }

  show(pods, hidden) {
    this.title.replaceChildren("Pending", make("small", "", pods.length + hidden ? `${pods.length}${hidden ? ` of ${pods.length + hidden}` : ""}` : ""));
    const wanted = new Map(pods.map((pod) => [pod.uid, pod]));
    for (const [uid, item] of this.items) {
      if (wanted.has(uid)) continue;
      item.element.remove();
      this.items.delete(uid);
    }
    for (const [uid, pod] of wanted) {
      const item = this.items.get(uid) ?? this.add(uid);
      this.fill(item, pod);
    }
    this.empty ??= make("p", "hint", "Every pod that asked has its place.");
    if (pods.length) this.empty.remove();
    else this.body.append(this.empty);
  }

  add(uid) {
    const item = { element: make("details"), summary: make("summary"), why: make("div", "why"), pod: null };
    item.element.dataset.uid = uid;
    item.element.append(item.summary, item.why);
    item.element.addEventListener("toggle", () => item.element.open && this.explain(item));
    this.items.set(uid, item);
    this.body.append(item.element);
    return item;
  }

  fill(item, pod) {
    if (JSON.stringify(item.pod) === JSON.stringify(pod)) return;
    item.pod = pod;
    item.age = make("span");
    const asks = pod.wanted.map((each) => each.replace(/^nvidia\.com\//, "")).join(" + ");
    item.summary.replaceChildren(
      make("b", "", pod.vm || pod.pod),
      item.age,
      make("span", "asks", `${tenantOf(pod)} asks for ${asks}`),
    );
    this.ages();
    if (item.element.open) this.explain(item);
    else item.why.replaceChildren(reasons(pod));
  }

  ages() {
    for (const { age, pod } of this.items.values()) age.textContent = ago(pod.since);
  }

  async explain(item) {
    const { pod } = item;
    if (!item.why.childElementCount) item.why.replaceChildren(reasons(pod));
    const query = new URLSearchParams(this.query);
    query.set("namespace", pod.namespace);
    query.set("pod", pod.pod);
    try {
      const answer = await fetch(`api/v1/explain?${query}`, { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(`${answer.status}`);
      const told = await answer.json();
      if (item.pod === pod) item.why.replaceChildren(reasons(pod), rendered(told));
    } catch {
      item.why.replaceChildren(reasons(pod)); // as good as what the scheduler was told
    }
  }
}

function reasons(pod) {
  if (!pod.reasons?.length) return make("p", "", "Its place is being made.");
  return make("ul", "", ...pod.reasons.map((each) => make("li", "", each.replace(/^vGPU: /, ""))));
}

function ago(since) {
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(since)) / 1000));
  if (!Number.isFinite(seconds)) return "";
  if (seconds < 90) return `${seconds} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}
