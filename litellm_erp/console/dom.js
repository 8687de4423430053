// Elements and numbers. Every value goes in as text: names of models and teams are whatever somebody typed.

export function el(tag, options = {}, ...children) {
  return fill(document.createElement(tag), options, children);
}

export function svg(tag, options = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), options, children);
}

function fill(node, options, children) {
  for (const [name, value] of Object.entries(options)) if (value != null) node.setAttribute(name, value);
  node.append(...children.filter((child) => child != null));
  return node;
}

export const number = (value, digits = 3) =>
  value == null ? "–" : Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en").replace("-", "−") : String(Number(value.toPrecision(digits))).replace("-", "−");

export function usd(value) {
  if (value == null) return "–";
  if (value === 0) return "$0";
  const size = Math.abs(value);
  const digits = size >= 1 ? 2 : Math.min(9, 2 - Math.floor(Math.log10(size)));
  return `${value < 0 ? "−" : ""}$${size.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: digits })}`;
}

export const percent = (value) => (value == null ? "–" : `${value < 0 ? "−" : ""}${Math.abs(100 * value).toFixed(Math.abs(value) < 0.0995 ? 1 : 0)}%`);

export const costPer1k = (value, unit) => (unit === "usd" ? usd(value) : number(value));

export function lambdaText(found) {
  if (!found) return "–";
  if ("lambda" in found) return `λ ${number(found.lambda)}`;
  return `λ ${number(found.lambda_low)} to ${number(found.lambda_high)}`;
}

// The same model has the same colour everywhere on the page.
const places = new Map();
export function hueOf(model) {
  if (!places.has(model)) places.set(model, places.size);
  const place = places.get(model);
  return place < 10 ? `h${place}` : "hx";
}

export function mixBar(share, label) {
  const parts = Object.entries(share).filter(([, part]) => part > 0);
  const bar = el("div", { class: "bar", role: "img", "aria-label": `${label}: ${parts.map(([m, p]) => `${m} ${percent(p)}`).join(", ")}` });
  for (const [model, part] of parts) {
    const piece = el("i", { class: hueOf(model), title: `${model} ${percent(part)}` });
    piece.style.setProperty("flex-grow", part);
    bar.append(piece);
  }
  return bar;
}

export function mixKey(share) {
  const items = Object.entries(share).filter(([, part]) => part > 0);
  return el("ul", { class: "key" }, ...items.map(([model, part]) =>
    el("li", {}, el("i", { class: hueOf(model) }), el("span", {}, `${model} ${percent(part)}`))));
}

export const tile = (value, label) => el("li", {}, el("b", {}, value), el("span", {}, label));

export const labelled = (label, value, className = "") => el("td", { "data-label": label, class: className }, value);
