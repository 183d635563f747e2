"use strict";
// Edit paths: show one step at a time. Without this script (and on paper) all steps stand below each other.
for (const figure of document.querySelectorAll(".edit-path")) {
  const frames = [...figure.querySelectorAll(".frame")];
  const slider = figure.querySelector("input");
  const [back, play, forth] = figure.querySelectorAll("button");
  const output = figure.querySelector("output");
  let timer = null;
  const stop = () => { clearInterval(timer); timer = null; play.textContent = "Play"; };
  const show = (step) => {
    slider.value = step;
    frames.forEach((frame, i) => frame.classList.toggle("now", i === step));
    output.textContent = frames[step].dataset.label;
    back.disabled = step === 0;
    forth.disabled = step === frames.length - 1;
  };
  slider.addEventListener("input", () => { stop(); show(+slider.value); });
  back.addEventListener("click", () => { stop(); show(+slider.value - 1); });
  forth.addEventListener("click", () => { stop(); show(+slider.value + 1); });
  play.addEventListener("click", () => {
    if (timer) return stop();
    show(+slider.value === frames.length - 1 ? 0 : +slider.value);
    play.textContent = "Pause";
    timer = setInterval(() => {
      show(+slider.value + 1);
      if (+slider.value === frames.length - 1) stop();
    }, 900);
  });
  figure.classList.add("live");
  show(frames.length - 1);
}
