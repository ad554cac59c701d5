// One study: the film on a canvas, and what the reader says.
import { ask, countOn, fault, isForPage, listen, say, toggleTheme } from "./page.js";

const study = document.getElementById("study");
const id = study.dataset.id;
const canvas = document.getElementById("film");
const stage = canvas.parentElement;
const shownWindow = document.getElementById("window");
const trouble = document.getElementById("film-fault");
const patience = document.getElementById("film-wait");
const heat = document.getElementById("heat");
const heatMap = document.getElementById("heat-map");

// A film: 16-bit gray values; `low` is drawn black and `high` white. The view: how it lies on the canvas.
let film = null;
let window_ = { low: 0, high: 65535, inverted: false };
let view = { scale: 1, x: 0, y: 0 };
const picture = document.createElement("canvas");

async function load(instance) {
  film = null;
  trouble.hidden = true;
  patience.hidden = false;
  canvas.dataset.state = "loading";
  try {
    const answer = await fetch(`/api/v1/instances/${instance}/pixels`);
    if (!answer.ok) throw new Error(await fault(answer));
    const [width, height] = answer.headers.get("X-Carina-Size").split(" ").map(Number);
    const [low, high] = answer.headers.get("X-Carina-Window").split(" ").map(Number);
    film = { width, height, low, high, values: new Uint16Array(await answer.arrayBuffer()) };
    picture.width = width;
    picture.height = height;
    reset();
    canvas.dataset.state = "shown";
  } catch (error) {
    trouble.textContent = error.message;
    trouble.hidden = false;
    canvas.dataset.state = "fault";
  } finally {
    if (canvas.dataset.instance === String(instance)) patience.hidden = true;
  }
}

/** The film through its window into `picture`; one table of 65,536 entries, then one look-up a pixel. */
function develop() {
  if (!film) return;
  const table = new Uint8Array(65536), width = Math.max(1, window_.high - window_.low);
  for (let value = 0; value < 65536; value++) {
    const gray = Math.round(255 * Math.min(1, Math.max(0, (value - window_.low) / width)));
    table[value] = window_.inverted ? 255 - gray : gray;
  }
  const image = new ImageData(film.width, film.height), out = new Uint32Array(image.data.buffer);
  for (let i = 0; i < out.length; i++) {
    const gray = table[film.values[i]];
    out[i] = 0xff000000 | (gray << 16) | (gray << 8) | gray;
  }
  picture.getContext("2d").putImageData(image, 0, 0);
  draw();
}

let asked = false;
function developSoon() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => { asked = false; develop(); });
}

function draw() {
  if (!film) return;
  const ratio = devicePixelRatio || 1, box = stage.getBoundingClientRect();
  canvas.width = Math.round(box.width * ratio);
  canvas.height = Math.round(box.height * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio * view.scale, 0, 0, ratio * view.scale, ratio * view.x, ratio * view.y);
  context.imageSmoothingEnabled = view.scale < 3;
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0);
  const center = (window_.low + window_.high) / 2 / 655.35, width = (window_.high - window_.low) / 655.35;
  shownWindow.value = `level ${center.toFixed(0)} % · window ${width.toFixed(0)} % · zoom ${(100 * view.scale).toFixed(0)} %`;
  canvas.dataset.level = center.toFixed(2);
  canvas.dataset.window = width.toFixed(2);
  canvas.dataset.zoom = view.scale.toFixed(4);
  canvas.dataset.place = `${view.x.toFixed(0)} ${view.y.toFixed(0)}`;
}

function fit() {
  const box = stage.getBoundingClientRect();
  const scale = Math.min(box.width / film.width, box.height / film.height);
  view = { scale, x: (box.width - scale * film.width) / 2, y: (box.height - scale * film.height) / 2 };
}

function reset() {
  if (!film) return;
  window_ = { low: film.low, high: film.high, inverted: false };
  document.getElementById("invert").setAttribute("aria-pressed", "false");
  fit();
  develop();
}

function zoom(factor, x, y) {
  if (!film) return;
  const box = stage.getBoundingClientRect();
  const [cx, cy] = [x ?? box.width / 2, y ?? box.height / 2];
  const scale = Math.min(20, Math.max(0.02, view.scale * factor));
  view.x = cx - (cx - view.x) * (scale / view.scale);
  view.y = cy - (cy - view.y) * (scale / view.scale);
  view.scale = scale;
  draw();
}

function invert() {
  window_.inverted = !window_.inverted;
  document.getElementById("invert").setAttribute("aria-pressed", String(window_.inverted));
  develop();
}

function level(dx, dy) {
  const center = (window_.low + window_.high) / 2 + dy * 80;
  const width = Math.max(64, (window_.high - window_.low) * Math.exp(dx / 250));
  window_.low = center - width / 2;
  window_.high = center + width / 2;
  developSoon();
}

let drag = null;
canvas.addEventListener("pointerdown", (event) => {
  if (!film || event.button > 1) return;
  drag = { x: event.clientX, y: event.clientY, moves: event.shiftKey || event.button === 1 };
  canvas.setPointerCapture(event.pointerId);
  event.preventDefault();
  canvas.focus();
});
canvas.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
  drag.x = event.clientX; drag.y = event.clientY;
  if (drag.moves) { view.x += dx; view.y += dy; draw(); } else level(dx, dy);
});
for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { drag = null; });
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const box = stage.getBoundingClientRect();
  zoom(Math.exp(-event.deltaY / 500), event.clientX - box.left, event.clientY - box.top);
}, { passive: false });
new ResizeObserver(() => { if (film) { fit(); draw(); } }).observe(stage);

function toggleHeat() {
  if (!heat) return;
  const on = heatMap.hidden;
  if (on) {
    heatMap.src = `/api/v1/instances/${canvas.dataset.instance}/heat-map`;
    heatMap.onerror = () => { heatMap.hidden = true; canvas.hidden = false; heat.setAttribute("aria-pressed", "false"); say("there is no heat map of this film", true); };
  }
  heatMap.hidden = !on;
  canvas.hidden = on;
  heat.setAttribute("aria-pressed", String(on));
}

function choose(tab) {
  for (const each of document.querySelectorAll(".film-tab")) each.setAttribute("aria-pressed", String(each === tab));
  canvas.dataset.instance = tab.dataset.instance;
  for (const each of document.querySelectorAll(".shares")) each.hidden = each.dataset.of !== tab.dataset.instance;
  if (heat && !heatMap.hidden) toggleHeat();
  load(tab.dataset.instance);
}

async function tell(body, words) {
  try {
    await ask("POST", `/api/v1/studies/${id}/feedback`, body);
    if (body.kind === "priority") { say(words); return; }
    sessionStorage.setItem("chosen", study.dataset.next);
    location.assign("/worklist");
  } catch (error) { say(error.message, true); }
}

async function flag() {
  try {
    const wanted = study.dataset.flagged !== "yes";
    await ask("PUT", `/api/v1/studies/${id}/flag`, { flagged: wanted });
    location.reload();
  } catch (error) { say(error.message, true); }
}

const what = document.getElementById("what");
function disagree() {
  if (!document.getElementById("disagree")) return;
  what.hidden = false;
  what.querySelector("input").focus();
}
what?.addEventListener("submit", (event) => {
  event.preventDefault();
  const picked = what.querySelector("input[name=finding]:checked");
  if (!picked) { say("say what it was", true); return; }
  const words = picked.id === "other" ? document.getElementById("other-words").value.trim() : picked.value;
  tell({
    kind: "disagree",
    disease: picked.dataset.disease === "yes",
    finding: words || null,
    comment: document.getElementById("comment").value.trim() || null,
  }, "kept");
});
document.getElementById("other-words")?.addEventListener("input", () => { document.getElementById("other").checked = true; });
document.getElementById("what-close")?.addEventListener("click", () => { what.hidden = true; });
document.getElementById("disagree")?.addEventListener("click", disagree);
document.getElementById("flag")?.addEventListener("click", flag);
document.getElementById("unread")?.addEventListener("click", async () => {
  try { await ask("DELETE", `/api/v1/studies/${id}/read`); location.reload(); } catch (error) { say(error.message, true); }
});
for (const button of document.querySelectorAll("[data-say]")) {
  button.addEventListener("click", () => tell({ kind: button.dataset.say }, "kept: the priority was wrong"));
}
for (const tab of document.querySelectorAll(".film-tab")) tab.addEventListener("click", () => choose(tab));
document.getElementById("invert").addEventListener("click", invert);
document.getElementById("reset").addEventListener("click", reset);
document.getElementById("zoom-in").addEventListener("click", () => zoom(1.25));
document.getElementById("zoom-out").addEventListener("click", () => zoom(0.8));
heat?.addEventListener("click", toggleHeat);

const click = (selector) => document.querySelector(selector)?.click();
const pan = (dx, dy) => { view.x += dx; view.y += dy; draw(); };
const keys = {
  i: invert, 0: reset, h: toggleHeat, "+": () => zoom(1.25), "-": () => zoom(0.8), t: toggleTheme,
  ArrowLeft: () => pan(40, 0), ArrowRight: () => pan(-40, 0), ArrowUp: () => pan(0, 40), ArrowDown: () => pan(0, -40),
  r: () => click("[data-say=read]"), a: () => click("[data-say=agree]"), d: disagree, p: () => click("[data-say=priority]"),
  f: () => click("#flag"), n: () => { if (study.dataset.next) location.assign(`/studies/${study.dataset.next}`); },
  Escape: () => { if (what && !what.hidden) what.hidden = true; else location.assign("/worklist"); },
};
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && what && !what.hidden) { what.hidden = true; return; }
  if (what?.contains(event.target)) return; // who says what it was gives no other answer by a slip
  const other = /^[1-9]$/.test(event.key) && document.querySelectorAll(".film-tab")[Number(event.key) - 1];
  if (other && isForPage(event)) { event.preventDefault(); choose(other); return; }
  if (!isForPage(event) || !(event.key in keys)) return;
  event.preventDefault();
  keys[event.key]();
});

sessionStorage.setItem("chosen", id);
if (canvas.dataset.instance) load(canvas.dataset.instance);
const tab = document.querySelector(`.film-tab[data-instance="${CSS.escape(canvas.dataset.instance)}"]`);
for (const each of document.querySelectorAll(".film-tab")) each.setAttribute("aria-pressed", String(each === tab));
listen(({ studies }) => {
  if (studies === null || studies.includes(Number(id))) say("this study has changed: load the page again");
});
countOn();
