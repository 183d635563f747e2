"use strict";
// Filter and sort the runs; without this script the list stands newest first.
const list = document.querySelector(".runs");
if (list) {
  const runs = [...list.children];
  const texts = new Map(runs.map((run) => [run, run.textContent.toLowerCase()]));
  const [controls] = document.querySelectorAll(".controls");
  const search = controls.querySelector("input");
  const sort = controls.querySelector("select");
  const output = controls.querySelector("output");
  const empty = document.querySelector(".empty");
  const newest = (a, b) => b.dataset.when - a.dataset.when;
  const orders = {
    newest,
    oldest: (a, b) => -newest(a, b),
    method: (a, b) => a.dataset.method.localeCompare(b.dataset.method) || newest(a, b),
    verdict: (a, b) => a.dataset.verdict.localeCompare(b.dataset.verdict) || newest(a, b),
  };
  const update = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const run of runs) {
      run.hidden = !words.every((word) => texts.get(run).includes(word));
      shown += !run.hidden;
    }
    output.textContent = `${shown} run${shown === 1 ? "" : "s"}`;
    empty.hidden = shown > 0;
  };
  search.addEventListener("input", update);
  sort.addEventListener("change", () => list.append(...runs.sort(orders[sort.value])));
  controls.hidden = false;
  controls.style.display = "flex";
  update();
}
