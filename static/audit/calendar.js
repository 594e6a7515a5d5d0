/* Each month is one stop for the Tab key; the arrow keys go from day to day in it. Without this
   script, every day is a stop. */

for (const table of document.querySelectorAll("[data-calendar]")) {
  const rows = [...table.tBodies[0].rows].map((row) => [...row.querySelectorAll("a")]);
  const days = rows.flat();
  days.forEach((day) => (day.tabIndex = -1));
  const left = table.querySelectorAll(".is-missing, .is-due, .is-reopened, .is-waits");
  (left[left.length - 1] || days[0]).tabIndex = 0;
  table.parentElement.scrollLeft = table.scrollWidth; // the latest days

  const go = (day) => {
    days.forEach((each) => (each.tabIndex = -1));
    day.tabIndex = 0;
    day.focus();
  };
  table.addEventListener("keydown", (event) => {
    const row = rows.findIndex((each) => each.includes(event.target));
    if (row < 0 || event.ctrlKey || event.altKey || event.metaKey) return;
    const column = rows[row].indexOf(event.target);
    const wanted = {
      ArrowLeft: rows[row][column - 1],
      ArrowRight: rows[row][column + 1],
      ArrowUp: rows[row - 1]?.[column],
      ArrowDown: rows[row + 1]?.[column],
      Home: rows[row][0],
      End: rows[row].at(-1),
    };
    if (!(event.key in wanted)) return;
    event.preventDefault();
    if (wanted[event.key]) go(wanted[event.key]);
  });
}
