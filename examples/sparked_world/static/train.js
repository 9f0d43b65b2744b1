import { ask, onSignedIn, onSubmit } from "/static/world.js";

const form = document.querySelector("form");
const list = document.querySelector(".jobs");
const notice = document.querySelector("[data-testid=paused]");
const { modelType, epochs } = form.elements;

const COSTS = { small: 5, large: 20, experimental: 10 };
const AGAIN_MS = 1000;

const showCost = () => {
  form.querySelector(".cost").textContent =
    `about ${COSTS[modelType.value] * epochs.value} credits, charged at the end`;
};
form.addEventListener("input", showCost);
showCost();

const SAID = {
  running: ({ estimated_cost: cost }) => `Training. ${cost} credits are set aside.`,
  ended: () => "Complete. It is being charged.",
  paused: ({ cost, needs }) => `Paused: it took ${cost} credits, and needs ${needs} credits.`,
  paid: ({ cost, estimated_cost: estimated }) => `Paid: ${cost} credits, of ${estimated} estimated.`,
};

const lines = new Map(); // By job.

const lineOf = (job) => {
  if (!lines.has(job.job_id)) {
    const line = document.createElement("li");
    const [title, said, bar] = ["strong", "span", "progress"].map((kind) => document.createElement(kind));
    title.textContent = `${job.modelType}, ${job.epochs} ${job.epochs === 1 ? "epoch" : "epochs"}`;
    bar.setAttribute("aria-label", "Progress");
    line.append(title, said, bar);
    lines.set(job.job_id, line);
    list.prepend(line);
  }
  return lines.get(job.job_id);
};

const showJob = (job) => {
  const line = lineOf(job);
  const [, said, bar] = line.children;
  const text = SAID[job.state](job);
  if (said.textContent !== text) said.textContent = text; // Else it would be read out each second.
  bar.value = job.progress;
  bar.hidden = job.state !== "running";
  line.dataset.state = job.state;
};

const notify = (jobs) => {
  const paused = jobs.find((job) => job.state === "paused");
  const text = paused
    ? `Training paused: insufficient credits. It needs ${paused.needs}, and you had ${paused.available}. ` +
      "Once there are enough it is paid by itself."
    : "";
  if (notice.textContent !== text) notice.textContent = text;
  notice.hidden = !paused;
};

let timer = null;

const refresh = async () => {
  clearTimeout(timer);
  timer = setTimeout(refresh, AGAIN_MS); // Started first: another one begun meanwhile takes this one's place.
  const told = await ask("/api/train/jobs");
  if (!told) return;
  for (const job of told.jobs.toReversed()) showJob(job);
  notify(told.jobs);
  document.querySelector(".none").hidden = told.jobs.length > 0;
  if (told.jobs.every((job) => job.state === "paid")) clearTimeout(timer);
};

onSignedIn(refresh);
onSubmit(form, refresh, (fields) => ({ ...fields, epochs: Number(fields.epochs) }));
