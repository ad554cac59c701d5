// People, keys, the log, results that were given up: each button one call of the REST interface.
import { ask, say } from "./page.js";

const on = (selector, kind, act) => {
  for (const each of document.querySelectorAll(selector)) {
    each.addEventListener(kind, async (event) => {
      event.preventDefault();
      try { await act(each); } catch (error) { say(error.message, true); }
    });
  }
};
const fields = (form) => Object.fromEntries(new FormData(form));
const path = encodeURIComponent;

on("[data-retry]", "click", async (button) => {
  await ask("POST", `/api/v1/deliveries/${button.dataset.retry}/retry`);
  location.reload();
});
on("[data-revoke]", "click", async (button) => {
  if (button.textContent !== "Really revoke") { button.textContent = "Really revoke"; return; }
  await ask("DELETE", `/api/v1/keys/${path(button.dataset.revoke)}`);
  location.reload();
});
on("[data-role]", "change", async (select) => {
  await ask("PATCH", `/api/v1/users/${path(select.dataset.role)}`, { role: select.value });
  say(`${select.dataset.role} is ${select.value} now`);
});
for (const box of document.querySelectorAll("[data-active]")) {
  box.addEventListener("change", async () => {
    try {
      await ask("PATCH", `/api/v1/users/${path(box.dataset.active)}`, { active: box.checked });
      location.reload();
    } catch (error) { box.checked = !box.checked; say(error.message, true); }
  });
}
on("#add-user", "submit", async (form) => { await ask("POST", "/api/v1/users", fields(form)); location.reload(); });
on("#add-key", "submit", async (form) => {
  const { key } = await ask("POST", "/api/v1/keys", fields(form));
  document.getElementById("made-key").value = `${key} (shown this once)`;
});
on("#take-step", "submit", async (form) => {
  await ask("POST", "/api/v1/step", { step: form.dataset.step, evidence: fields(form) });
  location.reload();
});
on("#step-down", "submit", async (form) => {
  const { step, reason } = fields(form);
  await ask("POST", "/api/v1/step", { step, evidence: { reason } });
  location.reload();
});
on("#verify", "click", async () => {
  const found = await ask("GET", "/api/v1/audit-log/verify");
  const place = document.getElementById("verdict");
  place.textContent = found.holds
    ? `${found.entries} entries, all as they were written. Newest hash ${found.head}`
    : `The log does not hold: ${found.fault}`;
  place.classList.toggle("late", !found.holds);
});
