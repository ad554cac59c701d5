// The page for uploads: files that are chosen; what is dropped is taken on every page (sending.js).
import { isForPage, toggleTheme } from "./page.js";
import { take } from "./sending.js";

document.getElementById("upload").addEventListener("submit", (event) => event.preventDefault());
document.getElementById("files").addEventListener("change", (event) => { take([...event.target.files]); event.target.value = ""; });
document.addEventListener("keydown", (event) => { if (isForPage(event) && event.key === "t") toggleTheme(); });
