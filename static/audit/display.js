/* How the list looks to this person: how dense, which the browser remembers, and in which zone. */

const density = localStorage.getItem("audit.density") ?? "comfortable";
const densities = document.querySelector(".portal-density");
const setDensity = (value) => document.documentElement.setAttribute("data-density", value);
densities.hidden = false;
for (const choice of densities.querySelectorAll("input")) {
  choice.checked = choice.value === density;
  choice.addEventListener("change", () => {
    localStorage.setItem("audit.density", choice.value);
    setDensity(choice.value);
  });
}
setDensity(density);

/* Time zones: the browser knows their names, and which one is the computer's own. */

const zones = document.getElementById("zones");
const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
for (const name of new Set([own, ...Intl.supportedValuesOf("timeZone")])) {
  if (name !== "UTC") zones.append(new Option(name === own ? "this computer's" : "", name));
}
