import { ask, onSubmit } from "/static/world.js";

const form = document.querySelector("form");
const making = document.querySelector(".making");
const bar = making.querySelector("progress");
const figure = document.querySelector("figure");
const seconds = form.elements.duration;

const ENDED = {
  complete: "Complete",
  stopped: "Stopped by you",
  failed: "Broke off, and what was made is yours",
};

const showCost = () => {
  form.querySelector("output").textContent = `${seconds.value} s`;
  form.querySelector(".cost").textContent = `up to ${10 * seconds.value} credits`;
};
seconds.addEventListener("input", showCost);
showCost();

let key = null; // Of the video that is being made.

const follow = async (followed) => {
  const told = await ask("/api/video/progress", { headers: { "Idempotency-Key": followed } });
  if (key !== followed) return;
  if (told?.seconds != null) {
    bar.value = told.seconds;
    making.querySelector(".done").textContent = `${told.seconds} of ${bar.max} seconds`;
  }
  setTimeout(follow, 250, followed);
};

making.querySelector("button").addEventListener("click", () => {
  ask("/api/video/stop", { method: "POST", headers: { "Idempotency-Key": key } });
});

const end = () => {
  key = null;
  // Else the focus would be on what is hidden now, and whoever uses the keyboard had to begin at the top.
  if (making.contains(document.activeElement)) form.querySelector("[type=submit]").focus();
  making.hidden = true;
};

const begin = (begun) => {
  key = begun;
  bar.max = seconds.value;
  bar.value = 0;
  making.querySelector(".done").textContent = "Beginning";
  making.hidden = false;
  figure.hidden = true;
  follow(begun);
};

const show = ({ video, seconds: made, cost, ended }) => {
  const picture = figure.querySelector("img");
  picture.hidden = !video;
  if (video) picture.src = video;
  figure.querySelector("figcaption").textContent =
    `${ENDED[ended]}: ${made} ${made === 1 ? "second" : "seconds"}, ${cost} credits.`;
  figure.hidden = false;
};

onSubmit(form, show, ({ duration, resolution }) => ({ duration: Number(duration), resolution }), {
  began: begin,
  ended: end,
});
