// Which VMs to move so that a pod has room, or a node or GPU is empty: asked for, and shown.

import { planned, verdict } from "./plan.js";

const FAR = "as-far-as-possible";

/** A dialog with a plan of moves; nothing is moved by it. */
export class Room {
  constructor(dialog) {
    this.dialog = dialog;
    this.title = dialog.querySelector("h2");
    this.state = dialog.querySelector(".state");
    this.body = dialog.querySelector(".body");
    this.far = dialog.querySelector("[data-act=far]");
    this.query = null;
    this.asking = null; // ends the question that is under way
    dialog.querySelector("[data-act=close]").addEventListener("click", () => dialog.close());
    dialog.querySelector("[data-act=again]").addEventListener("click", () => this.ask());
    this.far.addEventListener("change", () => this.goFar());
    dialog.addEventListener("close", () => dialog.open || this.forget()); // told of late: it may be open again
  }

  /** Ask what would admit a pod that waits. */
  admit(pod) {
    this.open(`Make room for ${pod.vm || pod.pod}`, { admit: `${pod.namespace}/${pod.pod}` });
  }

  /** Ask what of a node, or ("gpu") of one GPU on it, would go where. */
  drain(what, node, uuid) {
    if (what === "node") return this.open(`Drain ${node.name}`, { drain: node.name });
    const index = node.gpus.findIndex((gpu) => gpu.uuid === uuid);
    return this.open(`Drain ${node.name}, GPU ${index}`, { "drain-gpu": uuid });
  }

  open(title, goal) {
    this.title.textContent = title;
    this.query = new URLSearchParams(goal);
    this.far.checked = false;
    this.far.closest("label").hidden = "admit" in goal;
    this.dialog.showModal();
    this.ask();
  }

  /** Ask again: of a drain, whether all or only those that can go are to go. */
  goFar() {
    if (this.far.checked) this.query.set(FAR, "true");
    else this.query.delete(FAR);
    this.ask();
  }

  async ask() {
    this.forget();
    const asking = (this.asking = new AbortController());
    this.say("", "Looking for the fewest moves …");
    let said;
    try {
      const answer = await fetch(`api/v1/moves?${this.query}`, { cache: "no-store", signal: asking.signal });
      if (!answer.ok) throw new Error((await answer.text()).trim() || `status ${answer.status}`);
      said = await answer.json();
    } catch (error) {
      if (!asking.signal.aborted) this.say("bad", `No plan could be had: ${error.message.replace(/\.$/, "")}.`);
      return;
    }
    if (asking.signal.aborted) return;
    this.say(...verdict(said));
    this.body.replaceChildren(...planned(said));
    this.body.scrollTop = 0;
  }

  say(mood, text) {
    this.state.className = `state ${mood}`;
    this.state.textContent = text;
  }

  /** Wait for no answer any more, and show none. */
  forget() {
    this.asking?.abort();
    this.asking = null;
    this.body.replaceChildren();
    this.say("", "");
  }
}
