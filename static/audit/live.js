/* New events as they come. A poll asks for what is newer than the newest row; `audit/admin/live.py`
   says why a poll is no search of its own. Nobody polls for a page that nobody sees. */

const PAUSE = 4000; // milliseconds between two polls
const MOST = 500; // rows that stay on the page

const table = document.querySelector(".portal-rows");
const rows = table.tBodies[0];
const live = document.getElementById("live");
const told = document.getElementById("live-status");
let count = 0;

const poll = async () => {
  const query = new URLSearchParams(location.search);
  query.set("after", table.dataset.token);
  const answer = await fetch(`${table.dataset.live}?${query}`, { redirect: "manual" });
  if (!answer.ok) throw new Error(answer.statusText);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  return page.querySelector("table");
};

const show = (found) => {
  const news = [...found.tBodies[0].rows];
  table.dataset.token = found.dataset.token;
  if (news.length === 0) return;
  rows.prepend(...news);
  while (rows.rows.length > MOST) rows.lastElementChild.remove();
  count += news.length;
  for (const one of document.querySelectorAll("#selection, .portal-scroll")) one.hidden = false;
  document.querySelector(".portal-empty")?.remove();
  told.textContent = `${count} new ${count === 1 ? "event" : "events"}.`;
};

const stop = (why) => {
  live.checked = false;
  told.textContent = why;
};

const goOn = async () => {
  if (live.checked && !document.hidden) {
    try {
      const found = await poll();
      if ("more" in found.dataset) stop("More is new than can be shown here: load the list again.");
      else show(found);
    } catch {
      stop("Stopped: the portal does not answer. Load the list again; you may have to sign in.");
    }
  }
  setTimeout(goOn, PAUSE);
};

document.querySelector(".portal-live").hidden = false;
live.addEventListener("change", () => {
  told.textContent = live.checked ? "Waiting for new events." : "";
});
goOn();
