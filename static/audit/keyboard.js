/* The list by keyboard. What moves is the focus itself, from link to link: so Enter opens, a screen
   reader reads the row's heading, and nothing has to be told to anybody. The help is always there. */

const dialog = document.getElementById("keys");
const keysOn = document.getElementById("keys-on");
keysOn.checked = localStorage.getItem("audit.keys") !== "off";
keysOn.addEventListener("change", () => {
  localStorage.setItem("audit.keys", keysOn.checked ? "on" : "off");
});

const ROWS = ":is(.portal-rows, .portal-groups) > tbody > tr > th > a:first-child";
const links = () => [...document.querySelectorAll(ROWS)];
const step = (by) => {
  const all = links();
  const here = all.indexOf(document.activeElement?.closest("tr")?.querySelector("th > a"));
  const next = all[here < 0 ? (by > 0 ? 0 : -1) : Math.min(Math.max(here + by, 0), all.length - 1)];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
};
const follow = (selector) => document.querySelector(selector)?.click();
const search = () => {
  if (!document.querySelector(".portal-filter")) return;
  document.querySelector(".portal-filter").open = true;
  document.getElementById("f-q").select();
};

/* What is selected; where nothing is, the row that the keyboard is at. */
const boxHere = () => document.activeElement?.closest("tr")?.querySelector("[name=event]");
const select = () => boxHere()?.click();
const onSelection = (deed) => {
  if (!document.querySelector("[name=event]:is(:checked, [type=hidden])")) select();
  deed();
};
const mark = (deed) => onSelection(() => follow(`#selection [value=${deed}]`));
const comment = () => onSelection(() => document.getElementById("mark-text")?.focus());

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  n: () => follow(".portal-pages [rel=next]"),
  p: () => follow(".portal-pages [rel=prev]"),
  x: select,
  m: () => mark("looked_at"),
  c: comment,
  e: () => mark("exception"),
  "/": search,
  "g o": () => follow(".portal-nav a"),
};
let before = "";

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input:not([type=checkbox], [type=radio]), textarea, select");
  if (typing || dialog.open || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = KEYS[`${before} ${event.key}`] ? `${before} ${event.key}` : event.key;
  before = event.key;
  if (event.key === "?") dialog.showModal(); // it also switches the others on again
  else if (keysOn.checked && KEYS[key]) KEYS[key]();
  else return;
  event.preventDefault();
});

const help = document.getElementById("show-keys");
help?.removeAttribute("hidden");
help?.addEventListener("click", () => dialog.showModal());
