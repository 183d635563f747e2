"use strict";
// Optimisation trees: choose a prompt in the drawing and read it below. The address remembers it: #prompt-12.
for (const figure of document.querySelectorAll(".tree")) {
  const cards = [...figure.querySelectorAll(".card")];
  const nodes = new Map([...figure.querySelectorAll("svg a")].map((node) => [node.dataset.number, node]));
  const edges = new Map([...figure.querySelectorAll("svg path")].map((edge) => [edge.dataset.child, edge]));
  const [back, up, best, forth] = figure.querySelectorAll("button");
  const output = figure.querySelector("output");
  let now = cards.findIndex((card) => card.dataset.number === figure.dataset.best);
  const parentOf = (number) => cards[+number].dataset.parent;
  const show = (at) => {
    now = at;
    cards.forEach((card, i) => { card.classList.toggle("now", i === at); if (i === at) card.open = true; });
    const number = cards[at].dataset.number;
    nodes.forEach((node, name) => node.classList.toggle("now", name === number));
    const line = new Set();
    for (let one = number; one !== ""; one = parentOf(one)) line.add(one);
    edges.forEach((edge, name) => edge.classList.toggle("now", line.has(name)));
    back.disabled = at === 0;
    forth.disabled = at === cards.length - 1;
    up.disabled = parentOf(number) === "";
    output.textContent = `prompt ${number} of ${cards.length - 1} · ${line.size - 1} before it`;
  };
  const go = (at) => { show(at); history.replaceState(null, "", `#prompt-${cards[at].dataset.number}`); };
  nodes.forEach((node, number) => node.addEventListener("click", (event) => { event.preventDefault(); go(+number); }));
  back.addEventListener("click", () => go(now - 1));
  forth.addEventListener("click", () => go(now + 1));
  up.addEventListener("click", () => go(+parentOf(cards[now].dataset.number)));
  best.addEventListener("click", () => go(cards.findIndex((card) => card.dataset.number === figure.dataset.best)));
  const follow = () => {
    const found = /^#prompt-(\d+)$/.exec(location.hash);
    if (found && cards[+found[1]]) show(+found[1]);
  };
  figure.classList.add("live");
  show(now);
  addEventListener("hashchange", follow);
  follow();
}
