// The curve that λ are solved on, with a slider over it.
import { costPer1k, el, hueOf, mixBar, mixKey, number, percent, svg } from "./dom.js";

const HEIGHT = 320;
const PAD = { left: 48, right: 18, top: 16, bottom: 44 };

export class FrontierView {
  constructor(root) {
    this.root = root;
    this.place = 0;
    this.drawn = "";
    this.chart = el("div", { class: "chart" });
    this.slider = el("input", { type: "range", min: "0", step: "1", id: "lambda" });
    this.readings = el("dl", { class: "readings" });
    this.mix = el("div");
    this.slider.addEventListener("input", () => this.move(Number(this.slider.value)));
    new ResizeObserver(() => this.draw()).observe(this.chart);
    root.append(
      el("p", { class: "note" }, "What training's prompts earned at each λ (out of fold), the single models, and where the group and each team stand."),
      this.chart,
      el("div", { class: "dial" },
        el("label", { for: "lambda" }, "What would another λ get? Left: the highest reward; right: the lowest cost."),
        this.slider, this.readings, this.mix));
  }

  show(group, teams) {
    const first = this.group?.group !== group.group || this.group?.bundle !== group.bundle;
    this.group = group;
    this.teams = teams;
    if (first) {
      this.slider.max = String(group.points.length - 1);
      const now = (group.stands ?? teams[0])?.lambda;
      const wanted = now ? now.lambda ?? now.lambda_low : 0;
      this.place = nearest(group.points, wanted);
      this.slider.value = String(this.place);
    }
    const state = JSON.stringify([group.bundle, group.stands, teams.map((t) => [t.team, t.lambda])]);
    if (first || state !== this.drawn) {
      this.drawn = state;
      this.draw();
      this.read();
    }
  }

  move(place) {
    this.place = place;
    this.draw();
    this.read();
  }

  read() {
    const { points, cost_unit: unit, single_models: singles, verdict } = this.group;
    const point = points[this.place];
    const best = singles[verdict.best_single];
    const against = best && best.cost_per_1k > 0 ? 1 - point.cost_per_1k / best.cost_per_1k : null;
    const margin = point.reward_se == null ? "" : `± ${number(1.96 * point.reward_se, 2)} (95%)`;
    const rows = [
      ["λ", number(point.lambda), ""],
      ["Expected reward", number(point.reward), margin],
      [unit === "usd" ? "Cost per 1,000 requests" : "Relative cost per 1,000", costPer1k(point.cost_per_1k, unit), ""],
      ["Against the best single model", best ? `${signed(point.reward - best.reward)} reward` : "–",
        against == null ? "" : `${percent(Math.abs(against))} ${against >= 0 ? "less" : "more"} cost than ${verdict.best_single}`],
    ];
    this.readings.replaceChildren(...rows.map(([name, value, small]) =>
      el("div", {}, el("dt", {}, name), el("dd", {}, value, small ? el("small", {}, small) : null))));
    this.mix.replaceChildren(mixBar(point.share, "Model mix at this λ"), mixKey(point.share));
    this.slider.setAttribute("aria-valuetext", `λ ${number(point.lambda)}, reward ${number(point.reward)}, cost ${costPer1k(point.cost_per_1k, unit)}`);
  }

  draw() {
    if (!this.group) return;
    const width = Math.max(this.chart.clientWidth, 260);
    const { points, cost_unit: unit, single_models: singles } = this.group;
    const curve = points.filter((p) => p.cost_per_1k != null && p.reward != null);
    // The first have their names beside them; the others make room.
    const marks = [
      ...standing(this.group, this.teams),
      ...Object.entries(singles).map(([name, s]) => ({ name, cost: s.cost_per_1k, reward: s.reward, kind: "single" })),
    ].filter((m) => m.cost != null && m.reward != null);
    const costs = [...curve.map((p) => p.cost_per_1k), ...marks.map((m) => m.cost)].filter((c) => c > 0);
    const rewards = [...curve.map((p) => p.reward), ...marks.map((m) => m.reward)];
    if (!costs.length) {
      this.chart.replaceChildren(el("p", { class: "note" }, "This bundle knows no costs, so there is no curve to draw."));
      return;
    }
    const [lowCost, highCost] = [Math.log10(Math.min(...costs)) - 0.08, Math.log10(Math.max(...costs)) + 0.08];
    const spread = Math.max(...rewards) - Math.min(...rewards) || 0.1;
    const [lowReward, highReward] = [Math.min(...rewards) - 0.1 * spread, Math.max(...rewards) + 0.1 * spread];
    const x = (cost) => PAD.left + ((Math.log10(Math.max(cost, 1e-12)) - lowCost) / (highCost - lowCost)) * (width - PAD.left - PAD.right);
    const y = (reward) => HEIGHT - PAD.bottom - ((reward - lowReward) / (highReward - lowReward)) * (HEIGHT - PAD.top - PAD.bottom);
    const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": "Reward over cost: the curve, single models, the group and teams" });
    for (const tick of ticks(lowReward, highReward)) {
      picture.append(svg("line", { class: "grid", x1: PAD.left, x2: width - PAD.right, y1: y(tick), y2: y(tick) }),
        svg("text", { class: "axis end", x: PAD.left - 8, y: y(tick) + 4 }, number(tick)));
    }
    let lastX = -Infinity;
    for (const tick of decades(lowCost, highCost)) {
      if (x(tick) - lastX < 58) continue;
      lastX = x(tick);
      picture.append(svg("line", { class: "grid", x1: x(tick), x2: x(tick), y1: PAD.top, y2: HEIGHT - PAD.bottom }),
        svg("text", { class: "axis mid", x: x(tick), y: HEIGHT - PAD.bottom + 17 }, costPer1k(tick, unit)));
    }
    picture.append(svg("text", { class: "axis end", x: width - PAD.right, y: HEIGHT - 6 }, unit === "usd" ? "USD per 1,000 requests" : "relative cost per 1,000"),
      svg("text", { class: "axis", x: 4, y: 11 }, "reward"));
    const line = curve.filter((p) => p.cost_per_1k > 0).map((p) => `${x(p.cost_per_1k).toFixed(1)},${y(p.reward).toFixed(1)}`).join(" ");
    picture.append(svg("polyline", { class: "curve", points: line }));
    const now = points[this.place];
    const taken = [];
    for (const mark of marks) this.mark(picture, mark, x(mark.cost), y(mark.reward), width, taken);
    if (now.cost_per_1k > 0 && now.reward != null) {
      picture.append(svg("circle", { class: "now", cx: x(now.cost_per_1k), cy: y(now.reward), r: 8 }));
    }
    this.chart.replaceChildren(picture);
  }

  mark(picture, mark, px, py, width, taken) {
    const title = svg("title", {}, `${mark.name}: reward ${number(mark.reward)}, ${costPer1k(mark.cost, this.group.cost_unit)} per 1,000`);
    if (mark.kind === "single") picture.append(svg("circle", { class: `dot ${hueOf(mark.name)}`, cx: px, cy: py, r: 6 }, title));
    else picture.append(svg("path", { class: `stand ${mark.kind}`, d: `M${px} ${py - 7}L${px + 7} ${py}L${px} ${py + 7}L${px - 7} ${py}Z` }, title));
    const text = mark.name.length > 20 ? `${mark.name.slice(0, 19)}…` : mark.name;
    const wide = 7 * text.length + 14;
    const left = px + wide + 10 > width;
    const from = left ? px - wide : px;
    const at = py + (mark.kind === "single" ? 4 : 19);
    const isFree = (ty) => ty > PAD.top && ty < HEIGHT - PAD.bottom - 3 && !taken.some((t) => Math.abs(t.y - ty) < 15 && from < t.to && from + wide > t.from);
    const ty = [0, 1, -1, 2, -2, 3, -3, 4, 5, 6].map((step) => at + 15 * step).find(isFree);
    if (ty === undefined) return;
    taken.push({ y: ty, from, to: from + wide });
    const tx = left ? px - 11 : px + 11;
    // A name that had to make room is tied to its mark.
    if (Math.abs(ty - 4 - py) > 18) picture.append(svg("line", { class: "leader", x1: px, y1: py, x2: tx, y2: ty - 4 }));
    picture.append(svg("text", { class: `name ${left ? "end" : ""}`, x: tx, y: ty }, text));
  }
}

function standing(group, teams) {
  const at = (view) => view.expected.usd_per_1k_requests ?? view.expected.cost_per_1k;
  const shown = teams.slice(0, 12).map((t) => ({ name: t.alias ?? t.team ?? "this key", cost: at(t), reward: t.expected.reward, kind: "team" }));
  return group.stands ? [{ name: `${group.group} (group)`, cost: at(group.stands), reward: group.stands.expected.reward, kind: "group" }, ...shown] : shown;
}

const signed = (value) => `${value < 0 ? "−" : "+"}${number(Math.abs(value))}`;

function nearest(points, lambda) {
  let best = 0;
  points.forEach((p, i) => { if (Math.abs(p.lambda - lambda) < Math.abs(points[best].lambda - lambda)) best = i; });
  return best;
}

function ticks(low, high) {
  const raw = (high - low) / 4;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = unit * [1, 2, 5, 10].find((n) => n * unit >= raw);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high; i += 1) found.push(i * step);
  return found;
}

function decades(low, high) {
  const found = [];
  for (let e = Math.floor(low); e <= Math.ceil(high); e += 1) for (const n of [1, 2, 5]) found.push(n * 10 ** e);
  return found.filter((v) => Math.log10(v) >= low && Math.log10(v) <= high);
}

