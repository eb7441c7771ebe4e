// The fleet as the extender tells it: whole at first, then as it changes.

const RETRY_MS = 5000;

/** Tells "change" (detail: names of nodes, or null for all), "state" and "refused" (detail: text). */
export class Fleet extends EventTarget {
  constructor() {
    super();
    this.nodes = new Map();
    this.geometries = {};
    this.pending = [];
    this.pendingTotal = 0;
    this.about = null;
    this.state = "wait";
    this.source = null;
    const named = new URLSearchParams(location.search).getAll("namespace");
    this.query = new URLSearchParams(named.map((each) => ["namespace", each]));
  }

  /** Ask for everything, and then listen; again and again until that works. */
  async load() {
    this.source?.close();
    try {
      const answer = await fetch(`api/v1/fleet?${this.query}`, { cache: "no-store" });
      if (!answer.ok) throw new Refusal(answer.status, await answer.text());
      const told = await answer.json();
      this.nodes = new Map(told.nodes.map((node) => [node.name, node]));
      this.take(told);
      this.tell("change", null);
      this.listen(told.version);
    } catch (error) {
      this.become("lost");
      if (error instanceof Refusal) this.tell("refused", error.message);
      setTimeout(() => this.load(), RETRY_MS);
    }
  }

  listen(version) {
    const query = new URLSearchParams(this.query);
    query.set("since", version);
    const source = (this.source = new EventSource(`api/v1/events?${query}`));
    source.addEventListener("open", () => this.become("live"));
    source.addEventListener("change", (event) => this.apply(JSON.parse(event.data)));
    source.addEventListener("reload", () => this.load());
    source.addEventListener("error", () => {
      this.become("lost");
      if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      setTimeout(() => this.load(), RETRY_MS);
    });
  }

  apply(told) {
    for (const node of told.nodes) this.nodes.set(node.name, node);
    for (const name of told.gone) this.nodes.delete(name);
    this.take(told);
    const fewer = told.gone.length > 0;
    this.tell("change", fewer ? null : told.nodes.map((node) => node.name));
  }

  take(told) {
    Object.assign(this.geometries, told.geometries);
    this.pending = told.pending; // those that wait longest, of pendingTotal
    this.pendingTotal = told.pendingTotal;
    this.about = told.about;
  }

  become(state) {
    this.state = state;
    this.tell("state", state);
  }

  tell(what, detail) {
    this.dispatchEvent(new CustomEvent(what, { detail }));
  }
}

class Refusal extends Error {
  constructor(status, text) {
    super(
      status === 401
        ? "Nobody is known here by what the browser showed. `tangram page` opens this page with your kubeconfig."
        : text.trim() || `The extender answered ${status}.`,
    );
  }
}
