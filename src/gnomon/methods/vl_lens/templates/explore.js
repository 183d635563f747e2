"use strict";
// Images to explore. The address remembers what is shown: #explore-0/TOKEN/LAYER/WORD, with "all" for the maximum over layers.
const panels = [...document.querySelectorAll(".explore")].map((figure, number) => {
  const data = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
  const cells = [...figure.querySelectorAll(".cells button")];
  const radios = [...figure.querySelectorAll(".words input")];
  const slider = figure.querySelector(".layer");
  const output = figure.querySelector("output");
  const title = figure.querySelector(".read h3");
  const body = figure.querySelector(".read tbody");
  const all = data.layers.length; // the slider's last place: the maximum over all layers
  const top = (values) => Math.max(...values);
  // It opens on the strongest word, where that is strongest.
  const words = Object.keys(data.most).sort((a, b) => top(data.most[b]) - top(data.most[a]));
  const state = { token: 0, layer: all, word: words[0] || "" };
  if (words.length) state.token = data.most[words[0]].indexOf(top(data.most[words[0]]));
  radios.forEach((radio) => { radio.name = `word-${number}`; });

  const percent = (value) => `${(100 * value).toFixed(value < 0.1 ? 2 : 1)}\u00a0%`;
  const read = (token) => {
    title.textContent = `Patch ${token}`;
    body.replaceChildren(...data.layers.map((layer, row) => {
      const line = document.createElement("tr");
      line.classList.toggle("now", row === state.layer);
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = layer === 0 ? "in" : layer;
      line.append(head, ...data.tokens[token][row].map(([text, p]) => {
        const cell = document.createElement("td"), word = document.createElement("b"), share = document.createElement("i");
        word.textContent = text.trim() || JSON.stringify(text);
        share.textContent = ` ${percent(p)}`;
        cell.append(word, share);
        return cell;
      }));
      return line;
    }));
    cells.forEach((cell) => cell.classList.toggle("now", +cell.dataset.token === token));
  };
  const paint = () => {
    const heat = state.layer === all ? data.most[state.word] : (data.heat[state.word] || [])[state.layer];
    // One scale for all layers of a word, so that the slider shows where it grows.
    const low = Math.min(...(data.most[state.word] || [0])), span = top(data.most[state.word] || [1]) - low || 1;
    cells.forEach((cell) => {
      const value = heat ? heat[+cell.dataset.token] : 0;
      cell.style.setProperty("--heat", Math.max(0, (value - low) / span).toFixed(3));
      cell.title = heat ? `${state.word}: ${percent(value)}` : "";
    });
    const where = state.layer === all ? "all layers, the maximum" : state.layer === 0 && data.layers[0] === 0 ? "before the first block" : `layer ${data.layers[state.layer]}`;
    output.textContent = heat ? `${where} · at most ${percent(top(heat))}` : where;
  };
  const show = () => {
    slider.value = state.layer;
    radios.forEach((radio) => { radio.checked = radio.value === state.word; });
    paint();
    read(state.token);
  };
  const keep = () => {
    const layer = state.layer === all ? "all" : data.layers[state.layer];
    history.replaceState(null, "", `#explore-${number}/${state.token}/${layer}/${encodeURIComponent(state.word)}`);
  };
  cells.forEach((cell) => {
    const token = +cell.dataset.token;
    cell.addEventListener("mouseenter", () => read(token));
    cell.addEventListener("mouseleave", () => read(state.token));
    cell.addEventListener("focus", () => read(token));
    cell.addEventListener("click", () => { state.token = token; show(); keep(); });
  });
  slider.addEventListener("input", () => { state.layer = +slider.value; show(); keep(); });
  radios.forEach((radio) => radio.addEventListener("change", () => { state.word = radio.value; show(); keep(); }));
  figure.classList.add("live");
  show();
  return { figure, state, show, data, all, cells };
});

const follow = () => {
  const found = /^#explore-(\d+)\/(\d+)\/(all|\d+)\/(.*)$/.exec(location.hash);
  const panel = found && panels[+found[1]];
  if (!panel) return;
  const layer = found[3] === "all" ? panel.all : panel.data.layers.indexOf(+found[3]);
  const word = decodeURIComponent(found[4]);
  if (panel.data.tokens[+found[2]]) panel.state.token = +found[2];
  if (layer >= 0) panel.state.layer = layer;
  if (Object.hasOwn(panel.data.heat, word)) panel.state.word = word;
  panel.show();
};
addEventListener("hashchange", follow);
follow();
