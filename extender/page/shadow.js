// The policy beside the live one: what it would have refused, asked for now and then.

import { make } from "./dom.js";

const LAGS = 30; // seconds

const EVERY = 10_000; // milliseconds: the evidence of hours and days

/** Shows in a *section* how the shadow fares, and nothing where there is none. */
export function beside(section, fleet) {
  const body = section.querySelector(".body");
  let busy = false;
  const look = async () => {
    if (busy || document.hidden) return;
    busy = true;
    try {
      const answer = await fetch(`api/v1/shadow?${fleet.query}`, { cache: "no-store" });
      const said = answer.ok ? await answer.json() : { state: "none" };
      section.hidden = said.state === "none" && !said.fault;
      if (!section.hidden) body.replaceChildren(...shown(said));
    } catch {
      // The page says by itself that it is not live; what was shown last stays.
    } finally {
      busy = false;
    }
  };
  document.addEventListener("visibilitychange", look);
  setInterval(look, EVERY);
  look();
}

function shown(said) {
  const fault = said.fault ? make("p", "bad", `Its policy file is not used: ${said.fault}`) : "";
  const of = said.evidence;
  if (!of) {
    const why = said.state === "running" ? "It has nothing to tell yet." : "It is not running here.";
    return [fault, make("p", "hint", why)].filter(Boolean);
  }
  const { agreement: each } = of;
  const decided = each.same + each.gpu + each.node + each.elsewhere + each.refused + each.liveRefused + each.shadowRefused;
  const alike = decided ? `${((100 * (each.same + each.refused)) / decided).toFixed(1)} %` : "–";
  const rows = [
    ["Refused", of.refusals.live, of.refusals.shadow, interval(of.refusalsMore, 0)],
    ["Unusable slices", of.live.unusable.toFixed(1), of.shadow.unusable.toFixed(1), interval(of.unusableMore, 2)],
    ["Whole GPUs", of.live.whole.toFixed(1), of.shadow.whole.toFixed(1), interval(of.wholeMore, 2)],
  ];
  return [
    fault,
    behind(said),
    make(
      "p",
      "hint",
      `${of.policy} beside ${of.livePolicy} for ${hours(of.seconds)}: ${decided.toLocaleString("en")} VMs, ${alike} alike; ± is the half-width of a 95 % interval`,
    ),
    make(
      "table",
      "",
      make("thead", "", make("tr", "", ...["", "Live", "Shadow", "More"].map((name) => heading(name, "col")))),
      make(
        "tbody",
        "",
        ...rows.map(([name, ...cells]) =>
          make("tr", "", heading(name, "row"), ...cells.map((cell) => make("td", "", cell.toLocaleString("en")))),
        ),
      ),
    ),
  ].filter(Boolean);
}

/** That what is shown is behind, where it is by more than a moment. */
function behind({ lagSeconds }) {
  return lagSeconds >= LAGS ? make("p", "bad", `What it shows is behind by ${hours(lagSeconds)}.`) : "";
}

function hours(seconds) {
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function heading(text, scope) {
  const element = make(text ? "th" : "td", "", text);
  if (text) element.scope = scope;
  return element;
}

/** A difference with the half-width of its interval, where that is known. */
function interval({ mean, ci95 }, digits) {
  const number = Math.abs(mean) < 1e-9 ? 0 : mean;
  const sign = number > 0 ? "+" : "";
  return `${sign}${number.toFixed(digits)}${ci95 == null ? "" : ` ± ${ci95.toFixed(digits)}`}`;
}
