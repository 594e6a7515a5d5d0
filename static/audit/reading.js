/* How somebody reads the list: by keyboard, in dense rows, in their time zone, as events come. */
"use strict";

const rows = document.querySelector(".portal-rows tbody");
const remembered = (name, otherwise) => localStorage.getItem(`audit.${name}`) ?? otherwise;
const remember = (name, value) => localStorage.setItem(`audit.${name}`, value);

/* Keys. What moves is the focus itself, from link to link: so Enter opens, a screen reader reads the
   row's heading, and nothing has to be told to anybody. */

const dialog = document.getElementById("keys");
const keysOn = document.getElementById("keys-on");
keysOn.checked = remembered("keys", "on") === "on";
keysOn.addEventListener("change", () => remember("keys", keysOn.checked ? "on" : "off"));

const links = () => [...document.querySelectorAll(".portal-found tbody th a")];
const step = (by) => {
  const all = links();
  const here = all.indexOf(document.activeElement?.closest("tr")?.querySelector("th a"));
  const next = all[here < 0 ? (by > 0 ? 0 : -1) : Math.min(Math.max(here + by, 0), all.length - 1)];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
};
const follow = (selector) => document.querySelector(selector)?.click();
const search = () => {
  document.querySelector(".portal-filter").open = true;
  document.getElementById("f-q").select();
};

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  n: () => follow(".portal-pages [rel=next]"),
  p: () => follow(".portal-pages [rel=prev]"),
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
help.hidden = false;
help.addEventListener("click", () => dialog.showModal());

/* Density. */

const densities = document.querySelector(".portal-density");
const setDensity = (value) => document.documentElement.setAttribute("data-density", value);
densities.hidden = false;
for (const choice of densities.querySelectorAll("input")) {
  choice.checked = choice.value === remembered("density", "comfortable");
  choice.addEventListener("change", () => {
    remember("density", choice.value);
    setDensity(choice.value);
  });
}
setDensity(remembered("density", "comfortable"));

/* Time zones: the browser knows their names, and which one is the computer's own. */

const zones = document.getElementById("zones");
const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
for (const name of new Set([own, ...Intl.supportedValuesOf("timeZone")])) {
  if (name !== "UTC") zones.append(new Option(name === own ? "this computer's" : "", name));
}

/* New events as they come. A poll asks for what is newer than the newest row; the server says why a
   poll is no search of its own. Nobody polls for a page that nobody sees. */

const POLL = 4000; // milliseconds
const MOST = 500; // rows that stay on the page
const live = document.getElementById("live");
const status = document.getElementById("live-status");

const say = (text) => { status.textContent = text; };
const stop = (why) => {
  live.checked = false;
  say(why);
};

const poll = async (table) => {
  const query = new URLSearchParams(location.search);
  query.set("after", table.dataset.token);
  const answer = await fetch(`${table.dataset.live}?${query}`, { redirect: "error" });
  if (!answer.ok) throw new Error(answer.statusText);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const found = page.querySelector("table");
  table.dataset.token = found.dataset.token;
  return { news: [...found.querySelectorAll("tr")], more: "more" in found.dataset };
};

if (live) {
  const table = rows.closest("table");
  let count = 0;
  document.querySelector(".portal-live").hidden = false;
  live.addEventListener("change", () => say(live.checked ? "Waiting for new events." : ""));
  setInterval(async () => {
    if (!live.checked || document.hidden) return;
    try {
      const { news, more } = await poll(table);
      if (more) return stop("More new events than can be shown here: load the list again.");
      if (news.length === 0) return;
      document.querySelector(".portal-scroll[hidden]")?.removeAttribute("hidden");
      rows.prepend(...news);
      while (rows.rows.length > MOST) rows.lastElementChild.remove();
      count += news.length;
      say(`${count} new ${count === 1 ? "event" : "events"}.`);
    } catch {
      stop("Stopped: the portal does not answer. Load the list again; you may have to sign in.");
    }
  }, POLL);
}
