import { onSubmit } from "/static/world.js";

const talk = document.querySelector(".talk");
const form = document.querySelector("form");

const say = (who, text) => {
  const line = document.createElement("li");
  line.className = who;
  line.textContent = text; // As text, whatever it holds.
  talk.append(line);
  line.scrollIntoView({ block: "nearest" });
};

onSubmit(form, ({ reply }, { message }) => {
  say("mine", message);
  say("theirs", reply);
  form.reset();
  form.querySelector("textarea").focus();
});
