// What every page shares: changes with their token, the theme, waits that count on, and live events.

/** What the server says to the scripts of this page. */
export const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? "";

/** Ask the REST interface; the answer's JSON, or an Error with a sentence for people. */
export async function ask(method, path, body) {
  const headers = { "X-CSRF-Token": meta("csrf") };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Error("the service does not answer; nothing was changed");
  }
  if (answer.status === 401) { location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`); }
  if (!answer.ok) throw new Error(await fault(answer));
  return answer.status === 204 ? null : answer.json();
}

/** What an answer that is no success says, in words. */
export async function fault(answer) {
  const text = await answer.text();
  try {
    const { detail } = JSON.parse(text);
    return typeof detail === "string" ? detail : detail.map((each) => `${each.loc.at(-1)}: ${each.msg}`).join("; ");
  } catch {
    return text.trim().slice(0, 300) || `the service says ${answer.status}`;
  }
}

let quiet;
/** Say something to everybody, also to those who hear the page. */
export function say(text, bad = false) {
  const place = document.getElementById("said");
  place.textContent = text;
  place.classList.toggle("bad", bad);
  place.classList.add("shown");
  clearTimeout(quiet);
  quiet = setTimeout(() => place.classList.remove("shown"), bad ? 8000 : 3000);
}

export function toggleTheme() {
  const dark = getComputedStyle(document.documentElement).colorScheme.includes("dark");
  const chosen = dark ? "light" : "dark";
  document.documentElement.dataset.theme = chosen;
  try { localStorage.setItem("theme", chosen); } catch { /* a private window */ }
}

/** "12 min", as the server writes it. */
export function wait(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")}`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

export function countOn() {
  const now = Date.now() / 1000;
  for (const time of document.querySelectorAll("time[data-since]")) {
    if (!time.dataset.until) time.textContent = wait(now - Number(time.dataset.since));
  }
}

/** Moments are written in UTC by the server, and here in the zone of this browser. */
export function localTimes() {
  const two = (number) => String(number).padStart(2, "0");
  for (const time of document.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    time.textContent = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}`;
  }
  const zone = document.getElementById("zone");
  if (zone) zone.textContent = Intl.DateTimeFormat().resolvedOptions().timeZone || "of this browser";
}

/** Whether a key is meant for the page, and not for a field or the browser. */
export function isForPage(event) {
  if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey) return false;
  if (document.querySelector("dialog[open]")) return false;
  if (event.target.matches?.("input[type=radio]") && /^(Arrow.*| )$/.test(event.key)) return false; // chooses
  return !event.target.closest?.("input:not([type=checkbox]):not([type=radio]), textarea, select");
}

/** Call `changed` with what the service tells of, from the moment this page was made on. */
export function listen(changed) {
  const source = new EventSource(`/api/v1/events?since=${meta("newest-event") || 0}`);
  source.addEventListener("changed", (event) => changed(JSON.parse(event.data)));
  source.onerror = () => document.body.classList.add("cut-off");
  source.onopen = () => document.body.classList.remove("cut-off");
  addEventListener("pagehide", () => source.close());
  return source;
}

document.getElementById("theme")?.addEventListener("click", toggleTheme);
document.getElementById("sign-out")?.addEventListener("click", async () => {
  try { await ask("DELETE", "/api/v1/session"); } finally { location.assign("/sign-in"); }
});
setInterval(countOn, 15000);
localTimes();
