/* Typing narrows the list of actions to those whose words match; ticked ones always stay. */
"use strict";

for (const picker of document.querySelectorAll("[data-picker]")) {
  const search = picker.querySelector("input[type=search]");
  const none = picker.querySelector(".picker-none");
  const groups = [...picker.querySelectorAll(".picker-group")];

  const narrow = () => {
    const words = search.value.toLowerCase().split(/[\s_]+/).filter(Boolean);
    let found = 0;
    for (const group of groups) {
      const heading = group.querySelector(".picker-heading").textContent.toLowerCase();
      let shown = 0;
      for (const label of group.querySelectorAll("label")) {
        const text = `${heading} ${label.textContent.toLowerCase().replaceAll("_", " ")}`;
        const matches = words.every((word) => text.includes(word));
        label.hidden = !matches && !label.querySelector("input").checked;
        shown += label.hidden ? 0 : 1;
        found += matches ? 1 : 0;
      }
      group.hidden = shown === 0;
    }
    none.hidden = found > 0;
  };

  search.addEventListener("input", narrow);
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter") event.preventDefault();
  });
}

/* An empty field is no filter: leave it out of the address, so that links stay short. A day and a
   time are written with a T between them there; people put a space. */
for (const form of document.querySelectorAll(".portal-filter form, .portal-jump")) {
  form.addEventListener("formdata", (event) => {
    const kept = [...event.formData.entries()].filter(([, value]) => value.trim() !== "");
    for (const name of new Set(event.formData.keys())) event.formData.delete(name);
    for (const [name, value] of kept) {
      event.formData.append(name, value.replace(/^(\d{4}-\d\d-\d\d) +(\d\d:\d\d)/, "$1T$2"));
    }
  });
}

/* While a search is under way, what is still shown is not what was asked for: say so. */
const searching = (is) => {
  document.body.classList.toggle("is-searching", is);
  document.querySelector(".portal-found").setAttribute("aria-busy", is);
};
document.querySelector(".portal-filter form").addEventListener("submit", () => searching(true));
addEventListener("pageshow", () => searching(false)); // come back to, from the browser's memory

/* On a narrow screen what was found comes first, unless the filter is what has to be corrected. */
if (matchMedia("(max-width: 767px)").matches && !document.querySelector(".portal-problems")) {
  document.querySelector(".portal-filter").open = false;
}
