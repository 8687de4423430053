// What would be chosen for a prompt; no model is called and nothing is kept.
import { costPer1k, el, hueOf, labelled, lambdaText, number, usd } from "./dom.js";

export class ExplainView {
  constructor(root, ask) {
    this.prompt = el("textarea", { id: "prompt", rows: "4", required: "", placeholder: "Type a prompt" });
    this.team = el("select", { id: "team" });
    this.teamField = el("label", { hidden: "" }, "as team ", this.team);
    this.result = el("div", { id: "explained", role: "status", "aria-live": "polite" });
    const form = el("form", { id: "explain-form" },
      el("label", { for: "prompt" }, "Prompt"), this.prompt,
      el("div", { class: "row start" }, el("button", { type: "submit", class: "primary" }, "Explain"), this.teamField));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const body = { prompt: this.prompt.value, group: this.group.group };
      if (this.team.value !== "" && !this.teamField.hidden) body.team = this.team.value;
      try {
        this.show(await ask("explain", body));
      } catch (error) {
        this.result.replaceChildren(el("p", { class: "warning" }, error.message));
      }
    });
    root.replaceChildren(
      el("p", { class: "note" }, "The prompt goes to this proxy only: no model is called, and it is neither logged nor kept."), form, this.result);
  }

  offer(group, teams, admin) {
    this.group = group;
    const names = admin ? teams.map((t) => t.team ?? t.alias).filter((n) => n != null) : [];
    const wanted = JSON.stringify(names);
    if (wanted === this.offered) return;
    this.offered = wanted;
    const chosen = this.team.value;
    this.team.replaceChildren(el("option", { value: "" }, "none"), ...names.map((n) => el("option", { value: n }, n)));
    if (names.includes(chosen)) this.team.value = chosen;
    this.teamField.hidden = names.length === 0;
  }

  show(found) {
    const parts = found.choices.map((choice) => {
      const rows = choice.models.map((m, i) => el("tr", { class: i === 0 ? "own" : "" },
        labelled("Model", el("span", { class: "model" }, el("i", { class: hueOf(m.model) }), m.model)),
        labelled("Expected reward", number(m.expected_reward), "n"),
        labelled("Expected cost", this.group.cost_unit === "usd" ? usd(m.expected_cost_usd) : costPer1k(m.expected_cost_usd, "relative"), "n"),
        labelled("Reward − λ · cost", number(m.utility), "n")));
      return el("div", {},
        el("p", { class: "lede" }, el("strong", {}, choice.model), ` at λ ${number(choice.lambda)}: ${choice.reason}`),
        el("table", { class: "rows" }, el("thead", {}, el("tr", {}, ...["Model", "Expected reward", "Expected cost", "Reward − λ · cost"].map((h) => el("th", { scope: "col" }, h)))), el("tbody", {}, ...rows)));
    });
    this.result.replaceChildren(el("p", { class: "note" }, `Goal from: ${found.source} · ${lambdaText(found.lambda)} · bundle ${found.bundle}`), ...parts);
  }
}
