// Copies of templates, and their parts by name.

export function copied(templateId) {
  const root = document.getElementById(templateId).content.firstElementChild.cloneNode(true);
  const parts = {};
  for (const part of root.querySelectorAll("[data-part]")) parts[part.dataset.part] = part;
  return { root, parts };
}

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// Writes only what is new: a screen reader, or a selection, is left alone by what stays the same.
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function badge(node, text, kind = "") {
  write(node, text);
  node.className = `badge ${kind}`;
  node.hidden = !text;
}

export function say(node, text, bad = false) {
  node.classList.toggle("bad", bad);
  write(node, text);
}
