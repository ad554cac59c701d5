// The worklist: keys, and the order as it changes. The rows themselves are drawn by the server.
import { ask, countOn, isForPage, listen, say, toggleTheme } from "./page.js";

const list = document.getElementById("list");
const search = document.getElementById("search");
const help = document.getElementById("help");
let chosen = null; // the number of the selected study: it stays selected wherever it moves
let undone = null; // the last study that was read here

const rows = () => [...list.querySelectorAll("tbody tr")];
const at = () => rows().findIndex((row) => row.dataset.id === chosen);

function choose(place, scroll = true) {
  const all = rows();
  if (!all.length) { chosen = null; return; }
  const row = all[Math.min(all.length - 1, Math.max(0, place))];
  for (const each of all) { each.removeAttribute("aria-selected"); }
  row.setAttribute("aria-selected", "true");
  chosen = row.dataset.id;
  sessionStorage.setItem("chosen", chosen);
  if (scroll) row.scrollIntoView({ block: "nearest" });
}

/** Take a newly drawn list: rows that did not change stay the same nodes, so nothing flickers. */
function take(text) {
  const drawn = new DOMParser().parseFromString(`<div id="new">${text}</div>`, "text/html").getElementById("new");
  const faults = drawn.querySelector("#live-faults");
  const shown = document.getElementById("faults");
  if (faults && shown.innerHTML.trim() !== faults.innerHTML.trim()) shown.replaceChildren(...faults.childNodes);
  const body = list.querySelector("tbody"), fresh = drawn.querySelector("tbody");
  if (!body || !fresh) {
    list.replaceChildren(...drawn.childNodes);
  } else {
    const place = at();
    const old = new Map(rows().map((row) => [row.dataset.id, row]));
    const next = [...fresh.rows].map((row) => {
      const known = old.get(row.dataset.id);
      if (known && known.dataset.stamp === row.dataset.stamp) return known;
      row.classList.add("changed");
      return row;
    });
    body.replaceChildren(...next);
    for (const id of ["counts", "pager"]) list.querySelector(`#${id}`).replaceWith(drawn.querySelector(`#${id}`));
    if (chosen !== null) choose(at() >= 0 ? at() : place, false);
  }
  countOn();
}

let asked = 0, running = false, again = false;
async function refresh() {
  if (running) { again = true; return; }
  running = true;
  const mine = ++asked;
  try {
    const answer = await fetch(`/worklist/rows${location.search}`, { headers: { Accept: "text/html" } });
    if (answer.redirected && new URL(answer.url).pathname === "/sign-in") location.reload();
    else if (answer.ok && mine === asked) take(await answer.text());
  } catch { document.body.classList.add("cut-off"); }
  running = false;
  if (again) { again = false; setTimeout(refresh, 300); }
}

let soon = null;
/** A burst of changes is one; and of many browsers that hear of it each asks at a moment of its own. */
function refreshSoon() {
  if (soon === null) soon = setTimeout(() => { soon = null; refresh(); }, 400 + 400 * Math.random());
}

function narrow() {
  const query = new URLSearchParams(location.search);
  query.delete("offset");
  if (search.value.trim()) query.set("q", search.value.trim()); else query.delete("q");
  if (document.getElementById("second").checked) query.set("second", "true"); else query.delete("second");
  history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
  refresh();
}

async function act(what) {
  const row = rows()[at()];
  if (!row) { say("choose a study first: j and k"); return; }
  const id = row.dataset.id, name = row.querySelector(".patient a").textContent;
  try {
    if (what === "read") {
      await ask("POST", `/api/v1/studies/${id}/feedback`, { kind: "read" });
      undone = id;
      say(`${name}: read. u puts it back`);
    } else {
      const wanted = row.dataset.flagged !== "yes";
      await ask("PUT", `/api/v1/studies/${id}/flag`, { flagged: wanted });
      say(wanted ? `${name}: asked for now` : `${name}: not asked for any more`);
    }
    await refresh();
  } catch (error) { say(error.message, true); }
}

async function putBack() {
  if (undone === null) { say("nothing to undo"); return; }
  try {
    await ask("DELETE", `/api/v1/studies/${undone}/read`);
    chosen = undone; undone = null;
    say("put back on the list");
    await refresh();
  } catch (error) { say(error.message, true); }
}

const keys = {
  j: () => choose(at() + 1),
  k: () => choose(at() < 0 ? 0 : at() - 1),
  ArrowDown: () => choose(at() + 1),
  ArrowUp: () => choose(at() < 0 ? 0 : at() - 1),
  g: () => choose(0),
  G: () => choose(rows().length - 1),
  Enter: () => { const row = rows()[at()]; if (row) location.assign(`/studies/${row.dataset.id}`); },
  f: () => act("flag"),
  r: () => act("read"),
  u: putBack,
  t: toggleTheme,
  "/": () => { search.focus(); search.select(); },
  "?": () => help.showModal(),
  "[": () => list.querySelector("#pager [rel=prev]")?.click(),
  "]": () => list.querySelector("#pager [rel=next]")?.click(),
};

document.addEventListener("keydown", (event) => {
  if (event.target === search && event.key === "Escape") { search.value = ""; narrow(); search.blur(); return; }
  if (event.target === search && event.key === "Enter") { event.preventDefault(); search.blur(); choose(0); return; }
  if (!isForPage(event) || !(event.key in keys)) return;
  if (event.key === "Enter" && event.target.closest("a, button")) return;
  event.preventDefault();
  keys[event.key]();
});
list.addEventListener("click", (event) => {
  const row = event.target.closest("tbody tr");
  if (!row || event.target.closest("a, button")) return;
  if (row.dataset.id === chosen) location.assign(`/studies/${chosen}`);
  choose(rows().indexOf(row), false);
});
let typing;
search.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(narrow, 200); });
document.getElementById("second").addEventListener("change", narrow);
document.getElementById("help-button").addEventListener("click", () => help.showModal());

const before = sessionStorage.getItem("chosen");
if (before && rows().some((row) => row.dataset.id === before)) { chosen = before; choose(at()); }
listen(refreshSoon);
setInterval(refresh, 30000); // waits that become overdue, and parts that fall silent, send no event
countOn();
