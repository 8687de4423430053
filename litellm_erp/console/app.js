// Sign-in, refreshing, and who shows what. The key lives in this tab's sessionStorage and goes to this origin only.
import { DecisionsView } from "./decisions.js";
import { el, hueOf, lambdaText, mixBar, mixKey, number, percent, tile, usd } from "./dom.js";
import { ExplainView } from "./explain.js";
import { FrontierView } from "./frontier.js";
import { showTeams } from "./teams.js";

const EVERY_MS = 3000;
const API = new URL("../", import.meta.url);
const STORED = "erp-key";
const by = (id) => document.getElementById(id);
let key = sessionStorage.getItem(STORED);
let session = 0;
let seen = null;

class Refused extends Error {}

async function ask(path, body) {
  const answer = await fetch(new URL(path, API), {
    method: body ? "POST" : "GET",
    headers: { Authorization: `Bearer ${key}`, ...(body ? { "Content-Type": "application/json" } : {}) },
    body: body && JSON.stringify(body),
    credentials: "omit", cache: "no-store", redirect: "error", referrerPolicy: "no-referrer",
  });
  if (answer.status === 401) throw new Refused("The proxy does not know this key.");
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(typeof found.error?.message === "string" ? found.error.message : `The proxy answered ${answer.status}.`);
  return found;
}

const frontier = new FrontierView(by("frontier"));
const decisions = new DecisionsView(by("decisions"));
const explain = new ExplainView(by("explain"), ask);

const say = (text) => { if (by("status").textContent !== text) by("status").textContent = text; };

async function refresh(of) {
  try {
    const [groups, teams, recent] = await Promise.all([ask("groups"), ask("teams"), ask("decisions?limit=200")]);
    if (of !== session) return;
    seen = { ...groups, teams: teams.teams };
    decisions.add(recent);
    show();
    say("");
  } catch (error) {
    if (of !== session) return;
    if (error instanceof Refused) return signOut(error.message);
    say(`Not up to date: ${error.message} Trying again.`);
  }
  setTimeout(() => of === session && whenVisible(() => refresh(of)), EVERY_MS);
}

function whenVisible(go) {
  if (!document.hidden) return go();
  document.addEventListener("visibilitychange", () => whenVisible(go), { once: true });
}

function show() {
  by("sign-in").hidden = true;
  by("data").hidden = by("sign-out").hidden = false;
  const select = by("group");
  const names = seen.groups.map((g) => g.group);
  if (JSON.stringify(names) !== JSON.stringify([...select.options].map((o) => o.value))) {
    const chosen = select.value;
    select.replaceChildren(...names.map((name) => el("option", { value: name }, name)));
    if (names.includes(chosen)) select.value = chosen;
  }
  by("group-field").hidden = names.length < 2;
  const group = seen.groups.find((g) => g.group === select.value) ?? seen.groups[0];
  if (!group) {
    by("data").hidden = true;
    return say("No group is routed that this key may use.");
  }
  Object.keys(group.single_models).forEach(hueOf);
  const teams = seen.teams.filter((t) => t.group === group.group);
  overview(group);
  frontier.show(group, teams);
  showTeams(by("teams"), teams, group);
  decisions.show(group);
  explain.offer(group, teams, seen.admin);
  document.documentElement.dataset.ready = "yes";
}

function overview(group) {
  const { verdict, spent } = group;
  const kind = verdict.helps ? "helps" : "";
  const share = Object.fromEntries(Object.entries(spent.by_model).sort((a, b) => b[1] - a[1]).map(([m, n]) => [m, n / spent.requests]));
  const who = seen.admin ? "all teams" : seen.team ?? "this key";
  by("overview").replaceChildren(
    el("p", { class: "eyebrow" }, `${group.group} · ${who} · bundle ${group.bundle}`),
    el("div", { class: `verdict ${kind}` }, el("p", {}, verdict.text)),
    el("ul", { class: "tiles" },
      tile(number(spent.requests), "requests answered"),
      tile(usd(spent.usd), "spent"),
      tile(percent(spent.saved), spent.saved == null ? "saved: nothing to compare yet" : `saved against ${verdict.best_single}, the best single model (${usd(spent.saved_usd)})`),
      group.stands ? tile(lambdaText(group.stands.lambda), "the group's own, where a team has none") : null),
    ...(spent.requests ? [el("h3", {}, "Model mix"), mixBar(share, "Model mix"), mixKey(share)] : []));
}

function start() {
  session += 1;
  refresh(session);
}

function signOut(why = "Signed out.") {
  session += 1;
  key = null;
  seen = null;
  sessionStorage.removeItem(STORED);
  decisions.clear();
  for (const id of ["overview", "teams", "explained"]) by(id).replaceChildren();
  by("data").hidden = by("sign-out").hidden = by("group-field").hidden = true;
  by("sign-in").hidden = false;
  delete document.documentElement.dataset.ready;
  say(typeof why === "string" ? why : "Signed out.");
  by("key").focus();
}

by("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  const typed = by("key").value.trim();
  by("key").value = "";
  if (!/^[\x21-\x7e]+$/.test(typed)) return say("A key is printable ASCII without spaces.");
  key = typed;
  sessionStorage.setItem(STORED, key);
  say("Signing in …");
  start();
  by("main").focus();
});
by("sign-out").addEventListener("click", () => signOut());
by("group").addEventListener("change", show);

const THEMES = ["system", "light", "dark"];
function theme(name) {
  if (name === "system") {
    delete document.documentElement.dataset.theme;
    localStorage.removeItem("erp-theme");
  } else {
    document.documentElement.dataset.theme = name;
    localStorage.setItem("erp-theme", name);
  }
  by("theme").textContent = `Theme: ${name}`;
}
const themeNow = () => document.documentElement.dataset.theme ?? "system";
by("theme").textContent = `Theme: ${themeNow()}`;
by("theme").addEventListener("click", () => theme(THEMES[(THEMES.indexOf(themeNow()) + 1) % 3]));

if (key) start();
else by("key").focus();
