// The last decisions. Each worker keeps its own; what several of them answered is put together here.
import { el, hueOf, labelled, number, usd } from "./dom.js";

const KEPT = 200;
const SHOWN = 25;

export class DecisionsView {
  constructor(root) {
    this.known = new Map();
    this.workers = new Set();
    this.paused = false;
    this.pause = el("button", { type: "button", "aria-pressed": "false", id: "pause" }, "Pause");
    this.pause.addEventListener("click", () => {
      this.paused = !this.paused;
      this.pause.setAttribute("aria-pressed", String(this.paused));
      this.pause.textContent = this.paused ? "Resume" : "Pause";
    });
    this.body = el("tbody");
    this.note = el("p", { class: "note" });
    const heads = ["Time", "Team", "Chosen", "Served", "Reason", "λ", "Expected reward", "Cost", "Seconds", "Request"];
    root.replaceChildren(
      el("div", { class: "row" }, this.note, this.pause),
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": "h-decisions" },
        el("table", { class: "rows" }, el("thead", {}, el("tr", {}, ...heads.map((h) => el("th", { scope: "col" }, h)))), this.body)));
  }

  clear() {
    this.known.clear();
    this.workers.clear();
    this.body.replaceChildren();
  }

  add(answer) {
    this.workers.add(answer.worker);
    for (const d of answer.decisions) this.known.set(`${d.request_id} ${d.time}`, d);
    const newest = [...this.known].sort((a, b) => b[1].time - a[1].time).slice(0, KEPT);
    this.known = new Map(newest);
  }

  show(group) {
    if (this.paused) return;
    const rows = [...this.known.values()].filter((d) => d.group === group.group).slice(0, SHOWN);
    const from = this.workers.size > 1 ? `${this.workers.size} workers have answered this page` : "one worker has answered this page";
    this.note.textContent = rows.length
      ? `The newest ${rows.length}. Each worker process keeps its own last 500 in memory; so far ${from}. No prompt is kept.`
      : "No request has ended yet on the worker that answered.";
    this.body.replaceChildren(...rows.map(row));
  }
}

function row(d) {
  const expected = d.candidates[d.served ?? d.chosen]?.expected_reward;
  const model = (name) => el("span", { class: "model" }, name == null ? null : el("i", { class: hueOf(name) }), name ?? "–");
  const served = d.failed ? el("span", { class: "bad" }, "failed") : model(d.served);
  const reason = d.failed || d.followed ? d.reason : `${d.reason} · ${d.following ?? "not followed"}`;
  return el("tr", {},
    labelled("Time", new Date(1000 * d.time).toLocaleTimeString()),
    labelled("Team", el("span", { dir: "auto", class: "clip", title: d.team ?? "no team" }, d.team ?? "–"), "long"),
    labelled("Chosen", model(d.chosen)),
    labelled("Served", served),
    labelled("Reason", reason, "long"),
    labelled("λ", number(d.lambda), "n"),
    labelled("Expected reward", number(expected), "n"),
    labelled("Cost", usd(d.cost_usd), "n"),
    labelled("Seconds", number(d.latency_s, 2), "n"),
    labelled("Request", el("code", { title: d.request_id ?? "" }, (d.request_id ?? "–").slice(0, 8))));
}
