// Shows what comes while a run goes on; at its end the page is loaded once more, with what can be done then.
// Without it the page loads itself again every few seconds.
const journey = document.querySelector("#journey[data-live]");
const said = document.getElementById("live");

if (journey) {
  const source = new EventSource(journey.dataset.live);
  source.addEventListener("journey", (event) => {
    journey.innerHTML = event.data; // the page's own template, which escapes all that it is given
    said.textContent = "";
  });
  source.addEventListener("end", () => {
    source.close();
    window.location.reload();
  });
  source.onerror = () => {
    said.textContent =
      source.readyState === EventSource.CLOSED
        ? "This is no longer live. Load the page again to see how it goes on."
        : "Connecting again …";
  };
}
