// Trainings that are completed and could not be paid: collected by the jobs as soon as there are credits.

import { get } from "../api.js";
import { fill, h } from "../dom.js";
import { away, number, plural, time, userLink, words } from "../format.js";
import { heading, loading, nothing, section, table } from "../parts.js";

export function unpaid(view, signal) {
  const list = h("div", {});
  const again = loading(list, signal, () => get("/v1/admin/unpaid", { signal }), listed);
  fill(
    view,
    heading("Unpaid trainings", h("button", { on: { click: again } }, "Reload")),
    h(
      "p",
      { class: "lead" },
      "They are paid by themselves once the user has enough; a grant on the user's page is all it takes.",
    ),
    list,
  );
}

function listed({ trainings, total }) {
  if (!trainings.length) return section("None", {}, nothing("Every completed training is paid."));
  return section(
    plural(total, "training"),
    { note: total > trainings.length ? `${trainings.length} are shown` : "the longest unpaid first" },
    table(
      "Unpaid trainings",
      [
        { name: "Job", of: ({ job }) => h("span", { class: "id" }, job) },
        { name: "User", of: ({ user }) => userLink(user) },
        { name: "Model", of: ({ model }) => model || "—" },
        { name: "Unpaid since", of: ({ since }) => [time(since), h("div", { class: "muted small" }, away(since))] },
        { name: "Cost", class: "num", of: ({ cost }) => number(cost) },
        { name: "Paid", class: "num", of: ({ paid }) => number(paid) },
        { name: "Missing", class: "num", of: ({ required }) => number(required) },
        { name: "Tries", class: "num", of: ({ attempts }) => number(attempts) },
        { name: "Why", of: ({ reason }) => words(reason) },
      ],
      trainings,
    ),
  );
}
