/* How many events are selected stands in the bar, and is told to screen readers. */

const told = document.getElementById("selected");
const tell = () => {
  const count = document.querySelectorAll(".portal-rows [name=event]:checked").length;
  told.textContent = count === 0 ? "Nothing selected" : `${count} selected`;
};
document.addEventListener("change", (event) => {
  if (event.target.name === "event") tell();
});
addEventListener("pageshow", tell); // a browser remembers what was ticked
