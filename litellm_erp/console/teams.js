// One card a team: goal, λ, spend, savings, mix, budget and its pace.
import { costPer1k, el, lambdaText, mixBar, mixKey, number, percent, usd } from "./dom.js";

export function showTeams(root, teams, group) {
  if (!teams.length) {
    root.replaceChildren(el("p", { class: "note" }, "No team stands in the settings, and none has sent a request to this worker yet."));
    return;
  }
  const list = [...teams].sort((a, b) => (b.spent?.usd ?? 0) - (a.spent?.usd ?? 0));
  root.replaceChildren(
    el("div", { class: "cards" }, ...list.slice(0, 200).map((team) => card(team, group))),
    el("p", { class: "note" }, countedBy(list[0], list.length)));
}

function countedBy(view, n) {
  const more = n > 200 ? ` The 200 with the highest spend of ${n} are shown.` : "";
  const { workers, shared } = view.spent ?? {};
  if (shared) return `Spend is counted together by all workers${workers > 1 ? ` (${workers})` : ""}.${more}`;
  return `Spend since this worker started; without a shared store each worker counts its own.${more}`;
}

function card(team, group) {
  const spent = team.spent ?? {};
  const name = team.alias ?? team.team ?? "this key (no team)";
  const facts = [
    ["λ now", lambdaText(team.lambda), team.paced ? "paced by its budget" : ""],
    ["Requests", number(spent.requests ?? 0), ""],
    ["Spend", usd(spent.usd ?? 0), spent.usd_per_1k_requests == null ? "" : `${usd(spent.usd_per_1k_requests)} per 1,000`],
    ["Saved", percent(spent.saved_against_best_single), "against the best single model"],
    ["Expected reward", number(team.expected.reward), `at ${costPer1k(team.expected.usd_per_1k_requests ?? team.expected.cost_per_1k, group.cost_unit)} per 1,000`],
  ];
  const share = spent.share ?? {};
  const hasMix = Object.keys(share).length > 0;
  return el("article", { class: "card" },
    el("h3", { dir: "auto" }, name),
    el("p", { class: "note" }, `${goalText(team.goal)} · ${team.why}`),
    el("dl", { class: "readings" }, ...facts.map(([label, value, small]) =>
      el("div", {}, el("dt", {}, label), el("dd", {}, value, small ? el("small", {}, small) : null)))),
    hasMix ? mixBar(share, `Model mix of ${name}`) : null,
    hasMix ? mixKey(share) : null,
    team.window ? budget(team.window) : null,
    team.problem ? el("p", { class: "warning" }, team.problem) : null);
}

function goalText(goal) {
  const [form, value] = Object.entries(goal)[0];
  const per = goal.per ? ` per ${goal.per}` : "";
  if (form === "min_quality") return `at least ${percent(value)} of the way from the cheapest model's reward to the best`;
  const names = { lambda: "λ fixed at", budget_usd_per_1k_requests: "USD per 1,000 requests:", budget_usd: "budget in USD:" };
  return `${names[form] ?? `${form}:`} ${number(value)}${per}`;
}

function budget(window) {
  const used = window.budget_usd > 0 ? window.spent_usd / window.budget_usd : 1;
  const now = Date.now() / 1000;
  const gone = window.starts != null && window.ends > window.starts ? Math.min(Math.max((now - window.starts) / (window.ends - window.starts), 0), 1) : null;
  const meter = el("div", { class: "meter", role: "img", "aria-label": `${percent(used)} of the budget spent${gone == null ? "" : `, ${percent(gone)} of its time gone`}` });
  const fill = el("i", { class: used >= 0.9 ? "hot" : "" });
  fill.style.setProperty("width", `${Math.min(100 * used, 100)}%`);
  meter.append(fill);
  if (gone != null) {
    const mark = el("u", { title: "Where an even pace would be" });
    mark.style.setProperty("left", `${100 * gone}%`);
    meter.append(mark);
  }
  const ends = window.ends == null ? "" : ` · ends ${new Date(1000 * window.ends).toLocaleString()}`;
  const pace = gone == null ? "" : used > gone + 0.005 ? " · ahead of an even pace" : " · within an even pace";
  return el("div", { class: "budget" }, meter,
    el("p", { class: "note" }, `${usd(window.spent_usd)} of ${usd(window.budget_usd)} spent (${percent(used)}), ${usd(window.reserved_usd)} held for requests in flight${pace}${ends}`));
}
