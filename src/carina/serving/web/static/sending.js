// Films dropped anywhere on a page: one request a file, one after the other, each with a word on what became of it.
import { fault, meta, say } from "./page.js";

const words = { stored: "kept; it is on the worklist", known: "was here before", conflict: "kept beside other bytes of the same UID", ours: "a result of Carina itself: not kept" };
const waiting = [];
let busy = false;

/** Where it is told: the table of the page for uploads, else a panel that comes with the first film. */
function table() {
  const known = document.getElementById("sent");
  if (known) return known;
  const panel = document.createElement("section");
  panel.className = "sending";
  panel.setAttribute("aria-label", "What was sent");
  const close = document.createElement("button");
  Object.assign(close, { type: "button", className: "plain", textContent: "Close" });
  close.addEventListener("click", () => panel.remove());
  const made = document.createElement("table");
  Object.assign(made, { id: "sent", className: "plain-table" });
  const head = made.createTHead().insertRow();
  for (const name of ["File", "What became of it"]) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = name;
    head.append(cell);
  }
  made.createTBody();
  const title = document.createElement("h2");
  title.textContent = "What was sent";
  panel.append(close, title, made);
  document.body.append(panel);
  return made;
}

function line(name) {
  const sent = table();
  sent.hidden = false;
  const row = sent.tBodies[0].insertRow();
  const head = document.createElement("td"), bdi = document.createElement("bdi");
  bdi.textContent = name;
  head.append(bdi);
  const told = document.createElement("td");
  told.textContent = "waiting";
  row.append(head, told);
  sent.closest(".sending")?.scrollTo(0, 1e9); // the newest is seen
  return told;
}

function tell(place, result) {
  if (result.fault) { place.textContent = result.fault; place.className = "late"; return; }
  if (!result.study) { place.textContent = words[result.status]; return; }
  const link = document.createElement("a");
  link.href = `/studies/${result.study}`;
  link.textContent = `study ${result.study}`;
  place.replaceChildren(`${words[result.status]}: `, link);
}

async function send({ file, place }) {
  place.textContent = "on its way";
  if (file.size > Number(meta("largest-upload"))) { tell(place, { fault: "larger than is taken here" }); return; }
  const headers = { "X-CSRF-Token": meta("csrf"), "Content-Type": "application/octet-stream" };
  try {
    const answer = await fetch(`/api/v1/uploads?name=${encodeURIComponent(file.name.slice(0, 200))}`, { method: "POST", headers, body: file });
    if (!answer.ok) throw new Error(await fault(answer));
    const { files } = await answer.json();
    if (files.length === 1) { tell(place, files[0]); return; }
    place.textContent = `${files.length} films`;
    for (const each of files) tell(line(each.name), each);
  } catch (error) { tell(place, { fault: error.message }); }
}

async function work() {
  if (busy) return;
  busy = true;
  while (waiting.length) await send(waiting.shift());
  busy = false;
  say("all films were sent");
}

/** Send files, in their order, after those that wait already. */
export function take(files) {
  for (const file of files) waiting.push({ file, place: line(file.name) });
  if (waiting.length) work();
}

/** The files below a folder; hidden ones are the desktop's own. */
async function below(entry) {
  if (entry.name.startsWith(".")) return [];
  if (entry.isFile) return [await new Promise((found, failed) => entry.file(found, failed))];
  const reader = entry.createReader(), found = [];
  for (;;) { // a hundred at a time
    const some = await new Promise((read, failed) => reader.readEntries(read, failed));
    if (!some.length) return found;
    for (const each of some) found.push(...await below(each));
  }
}

/** What was dropped: files, and those in folders. All is asked for at once: after the event it is gone. */
async function dropped(items) {
  const named = [...items].filter((item) => item.kind === "file").map((item) => {
    const entry = item.webkitGetAsEntry?.();
    return entry?.isDirectory ? below(entry) : [item.getAsFile()];
  });
  return (await Promise.all(named)).flat();
}

const brings = (event) => event.dataTransfer?.types.includes("Files");
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    if (!brings(event)) return;
    event.preventDefault();
    document.body.classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
document.addEventListener("drop", (event) => {
  if (!brings(event)) return;
  event.preventDefault(); // else the browser would leave the page and open the file
  document.body.classList.remove("over");
  if (!meta("largest-upload")) { say("films are sent by readers; you are a viewer", true); return; }
  dropped(event.dataTransfer.items).then(take, () => say("a folder cannot be read; choose its files instead", true));
});
