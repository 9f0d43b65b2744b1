import { onSubmit } from "/static/world.js";

const figure = document.querySelector("figure");

onSubmit(document.querySelector("form"), ({ canvas }, { prompt }) => {
  const picture = figure.querySelector("img");
  picture.src = `data:image/svg+xml,${encodeURIComponent(canvas)}`; // An image cannot run scripts.
  picture.alt = `Abstract picture for: ${prompt}`;
  figure.querySelector("figcaption").textContent = prompt;
  figure.hidden = false;
});
