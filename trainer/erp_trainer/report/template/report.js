"use strict";
// The page's data and every chart are in #report-data; nothing is fetched.
const report = JSON.parse(document.getElementById("report-data").textContent);
const darkMode = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 640px)");
const views = new Map();

const theme = () => (darkMode.matches ? "dark" : "light");

// Datasets are the user's own words and numbers: no token is looked for in them.
function themed(spec, palette) {
  if (typeof spec === "string") return spec.startsWith("$") ? (palette[spec.slice(1)] ?? spec) : spec;
  if (Array.isArray(spec)) return spec.map((value) => themed(value, palette));
  if (spec === null || typeof spec !== "object") return spec;
  return Object.fromEntries(
    Object.entries(spec).map(([key, value]) => [key, key === "datasets" ? value : themed(value, palette)]),
  );
}

// Where there is no room for them, points have numbers for names, names are cut shorter, and legends stand in one column.
function fits(part) {
  return !(part?.name ?? "").startsWith?.("label") || part.encoding.text.field === "label";
}

function fitted(spec) {
  if (!narrow.matches) return spec;
  if (Array.isArray(spec)) return spec.filter(fits).map(fitted);
  if (spec === null || typeof spec !== "object") return spec;
  return Object.fromEntries(
    Object.entries(spec).map(([key, value]) => {
      if (key === "datasets") return [key, value];
      if (key === "columns") return [key, 1];
      if (key === "field" && value === "label") return [key, "number"];
      if (key === "field" && value === "side") return [key, "small_side"];
      if (key === "labelLimit") return [key, spec.orient === "bottom" ? 290 : Math.min(value, 150)];
      return [key, fitted(value)];
    }),
  );
}

async function draw(element) {
  const name = element.dataset.chart;
  const spec = fitted(themed(report.charts[name], report.palettes[theme()]));
  const result = await vegaEmbed(element, spec, { actions: false, renderer: "svg", tooltip: { theme: "custom" } });
  views.set(name, result.view);
}

const folded = (element) => element.closest("details:not([open])") !== null;

// A chart has no width while it is folded away; it is drawn when it is opened.
async function drawIn(root) {
  for (const element of root.querySelectorAll("[data-chart]")) {
    if (!folded(element) && !views.has(element.dataset.chart)) await draw(element);
  }
  await place();
  for (const choice of root.querySelectorAll("select[data-cells]")) if (!folded(choice)) await fill(choice);
}

async function drawAll() {
  document.documentElement.removeAttribute("data-ready");
  for (const view of views.values()) view.finalize();
  views.clear();
  for (const element of document.querySelectorAll("[data-chart]")) element.replaceChildren();
  await drawIn(document);
  document.documentElement.dataset.ready = theme();
}

function put(name, dataset, rows) {
  const view = views.get(name);
  if (!view) return null;
  return view.data(dataset, rows.map((row) => ({ ...row }))).runAsync();
}

// ---- the slider: positions are the points of the bundle's own curve, or money between its two ends ----
const curve = report.curve;
const dial = document.getElementById("dial");
const STEPS = 1000;

function position() {
  const byBudget = document.querySelector("input[name=mode]:checked")?.value === "budget";
  if (!byBudget) return { point: curve[Number(dial.value)], budget: null };
  const budget = report.budget.low + (Number(dial.value) / STEPS) * (report.budget.high - report.budget.low);
  const affordable = curve.filter((point) => point.cost <= budget * (1 + 1e-9));
  return { point: affordable[0] ?? curve[curve.length - 1], budget };
}

function setMode() {
  const { point } = position.last ?? { point: curve[dial.defaultValue] };
  const byBudget = document.querySelector("input[name=mode]:checked")?.value === "budget";
  dial.max = byBudget ? STEPS : curve.length - 1;
  const { low, high } = report.budget ?? { low: 0, high: 0 };
  dial.value = byBudget ? Math.ceil((STEPS * (point.cost - low)) / (high - low || 1)) : curve.indexOf(point);
  return place();
}

async function place() {
  if (!dial) return;
  const { point, budget } = (position.last = position());
  for (const [name, text] of Object.entries(point.says)) document.getElementById(`at-${name}`).textContent = text;
  const asked = document.getElementById("at-budget");
  if (asked) asked.textContent = budget === null ? "" : `of a budget of ${budget.toPrecision(3)}`;
  dial.setAttribute("aria-valuetext", Object.values(point.says).join(", "));
  const palette = report.palettes[theme()];
  const bar = document.getElementById("at-bar");
  const key = document.getElementById("at-key");
  bar.replaceChildren();
  key.replaceChildren();
  for (const { model, share, colour } of point.mix) {
    const fill = palette[colour.slice(1)];
    const piece = document.createElement("i");
    piece.style.width = `${100 * share}%`;
    piece.style.background = fill;
    piece.title = model;
    bar.append(piece);
    const item = document.createElement("li");
    const swatch = document.createElement("i");
    swatch.style.background = fill;
    item.append(swatch, `${model} ${(100 * share).toFixed(share < 0.0995 ? 1 : 0)}%`);
    key.append(item);
  }
  await Promise.all([put("frontier", "here", [point]), put("mix", "here", [point])]);
}

// ---- heat maps whose category is chosen from a list ----
async function fill(choice) {
  const cells = report.cells[choice.dataset.cells][choice.value];
  await Promise.all(Object.entries(cells).map(([name, rows]) => put(name, "rows", rows)));
}

dial?.addEventListener("input", place);
for (const mode of document.querySelectorAll("input[name=mode]")) mode.addEventListener("change", setMode);
for (const choice of document.querySelectorAll("select[data-cells]")) {
  choice.addEventListener("change", () => fill(choice));
}
document.addEventListener("toggle", (event) => event.target.open && drawIn(event.target), true);
const unfold = (elements) => { for (const element of elements) element.open = true; };
addEventListener("hashchange", () => {
  unfold(document.getElementById(location.hash.slice(1))?.querySelectorAll(":scope > details") ?? []);
});
addEventListener("beforeprint", () => unfold(document.querySelectorAll("details")));
const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const table = target.closest(".scroll");
    table.parentElement.classList.toggle("over", table.scrollWidth > table.clientWidth + 1);
  }
});
for (const table of document.querySelectorAll(".scroll")) sizes.observe(table);
darkMode.addEventListener("change", drawAll);
narrow.addEventListener("change", drawAll);
drawAll();
