// Making elements. Text only ever becomes text: whatever is in a user's id or an entry's metadata, it is no markup.

/**
 * An element with its attributes and children.
 *
 * `props`: `class`, `on: {event: listener}`, `data: {name: value}`, `vars: {"--name": value}`; all else is an
 * attribute. `true` is an attribute without a value; false, null and undefined leave it out.
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "data") {
      Object.assign(element.dataset, value);
    } else if (name === "vars") {
      for (const [variable, part] of Object.entries(value)) element.style.setProperty(variable, part);
    } else if (value === true) {
      element.setAttribute(name, "");
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value);
    }
  }
  add(element, ...children);
  return element;
}

/** Add children: elements, text, numbers, lists of these; null and false are nothing. */
export function add(element, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
}

/** Have exactly these children from now on. */
export function fill(element, ...children) {
  element.replaceChildren();
  add(element, ...children);
  return element;
}

/** Write `text`, unless it is there already: what is selected stays selected. */
export function say(element, text) {
  if (element.textContent !== String(text)) element.textContent = text;
}

let made = 0;

/** An id that no other element has. */
export function newId(what) {
  made += 1;
  return `${what}-${made}`;
}
