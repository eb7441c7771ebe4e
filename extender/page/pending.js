// The pods that wait, and why: in short at once, explained when opened.

import { count, make } from "./dom.js";
import { rendered } from "./explanation.js";
import { tenantOf } from "./sums.js";

/** Shows pods; what is open stays open while others come and go. */
export class PendingPods {
  /** *admit* is told of a pod that moves of others may make room for, when somebody asks. */
  constructor(section, query, admit) {
    this.title = section.querySelector("h2");
    this.body = section.querySelector(".body");
    this.query = query;
    this.admit = admit;
    this.hint = make("p", "hint");
    this.body.append(this.hint); // below all that wait
    this.items = new Map();
    setInterval(() => this.ages(), 5000);
  }

  /** Show *pods*: those the filters leave of the *told* that wait longest, of *total*. */
  show(pods, told, total) {
    const [some, all] = [pods.length, total].map((each) => each.toLocaleString("en"));
    this.title.replaceChildren("Pending", make("small", "", pods.length < total ? `${some} of ${all}` : total ? all : ""));
    const wanted = new Map(pods.map((pod) => [pod.uid, pod]));
    for (const [uid, item] of this.items) {
      if (wanted.has(uid)) continue;
      item.element.remove();
      this.items.delete(uid);
    }
    let next = this.body.firstElementChild;
    for (const [uid, pod] of wanted) {
      const item = this.items.get(uid) ?? this.add(uid);
      if (item.element === next) next = next.nextElementSibling;
      else this.body.insertBefore(item.element, next);
      this.fill(item, pod);
    }
    this.hint.textContent = hint(pods.length, told, total);
    this.hint.hidden = !this.hint.textContent;
  }

  add(uid) {
    const item = { element: make("details"), summary: make("summary"), why: make("div", "why"), pod: null };
    item.element.dataset.uid = uid;
    item.element.append(item.summary, item.why);
    item.element.addEventListener("toggle", () => item.element.open && this.explain(item));
    item.room = make("button", "", "Make room …");
    item.room.type = "button";
    item.room.setAttribute("aria-haspopup", "dialog");
    item.room.addEventListener("click", () => this.admit(item.pod));
    this.items.set(uid, item);
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
    let said;
    let scattered = false;
    try {
      const answer = await fetch(`api/v1/explain?${query}`, { cache: "no-store" });
      if (!answer.ok) throw new Error((await answer.text()).trim() || `status ${answer.status}`);
      const told = await answer.json();
      said = rendered(told);
      scattered = told.missing?.lack === "fragmentation";
    } catch (error) {
      said = make("p", "bad", `The explanation could not be had: ${error.message.replace(/\.$/, "")}.`);
    }
    if (item.pod !== pod) return;
    const focused = document.activeElement === item.room;
    item.why.replaceChildren(reasons(pod), said, ...(scattered ? [item.room] : []));
    if (focused) item.room.focus();
  }
}

/** What the list does not say by itself: that it is empty, and why, or not all. */
function hint(shown, told, total) {
  const more = (total - told).toLocaleString("en");
  if (!total) return "Every pod that asked has its place.";
  if (shown) return told < total ? `${more} more wait, less long.` : "";
  if (told < total) return `None of the ${count(told, "pod")} that wait longest match the filters; ${more} more wait.`;
  return told === 1
    ? "The one pod that waits does not match the filters."
    : `None of the ${count(told, "pod")} that wait match the filters.`;
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
