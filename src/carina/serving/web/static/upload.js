// Films from a folder: one request a file, one after the other, each with a word on what became of it.
import { fault, isForPage, say, toggleTheme } from "./page.js";

const drop = document.getElementById("upload");
const table = document.getElementById("sent");
const words = { stored: "kept; it is on the worklist", known: "was here before", conflict: "kept beside other bytes of the same UID", ours: "a result of Carina itself: not kept" };
const waiting = [];
let busy = false;

function line(name) {
  table.hidden = false;
  const row = table.tBodies[0].insertRow();
  const head = document.createElement("td"), bdi = document.createElement("bdi");
  bdi.textContent = name;
  head.append(bdi);
  const told = document.createElement("td");
  told.textContent = "waiting";
  row.append(head, told);
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
  if (file.size > Number(drop.dataset.most)) { tell(place, { fault: "larger than is taken here" }); return; }
  const headers = { "X-CSRF-Token": document.querySelector("meta[name=csrf]").content, "Content-Type": "application/octet-stream" };
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

function take(files) {
  for (const file of files) waiting.push({ file, place: line(file.name) });
  work();
}

for (const kind of ["dragenter", "dragover"]) drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => { event.preventDefault(); take(event.dataTransfer.files); });
drop.addEventListener("submit", (event) => event.preventDefault());
document.getElementById("files").addEventListener("change", (event) => { take(event.target.files); event.target.value = ""; });
document.addEventListener("keydown", (event) => { if (isForPage(event) && event.key === "t") toggleTheme(); });
