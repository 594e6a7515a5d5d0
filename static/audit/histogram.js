/* Dragging over the bars sets the time range: from the first bar touched to the last. Without a
   mouse, the table under the bars has the same links. */

const drawing = document.querySelector("[data-histogram]");
const bars = [...drawing.querySelectorAll("a")];
let from = -1;
let to = -1;

const barAt = (event) => {
  const { left, width } = drawing.getBoundingClientRect();
  const index = Math.floor(((event.clientX - left) / width) * bars.length);
  return Math.min(Math.max(index, 0), bars.length - 1);
};
const mark = () => {
  const [first, last] = [Math.min(from, to), Math.max(from, to)];
  bars.forEach((bar, n) => bar.classList.toggle("is-chosen", from >= 0 && first <= n && n <= last));
};

drawing.addEventListener("pointerdown", (event) => {
  from = to = barAt(event);
  mark();
});
addEventListener("pointermove", (event) => {
  if (from < 0) return;
  to = barAt(event);
  mark();
});
addEventListener("pointerup", () => {
  if (from >= 0 && to !== from) {
    const url = new URL(bars[0].getAttribute("href"), location.href);
    url.searchParams.set("occurred_after", bars[Math.min(from, to)].dataset.after);
    url.searchParams.set("occurred_before", bars[Math.max(from, to)].dataset.before);
    location.assign(url);
  }
  from = -1;
  mark();
});
addEventListener("pointercancel", () => {
  from = -1;
  mark();
});
drawing.addEventListener("dragstart", (event) => event.preventDefault()); // no dragging of links
