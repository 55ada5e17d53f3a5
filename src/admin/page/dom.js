// Building elements, and changing only what differs. Text from the server is only ever set as text.

const SVG = "http://www.w3.org/2000/svg";

/// An element with attributes and children; a string becomes text. An attribute without a value is left out.
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/// An SVG element with attributes and children.
export function s(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export const $ = (id) => document.getElementById(id);

/// Sets the text of an element that has no other content.
export function setText(node, text) {
  const child = node.firstChild;
  if (child === null) {
    if (text !== "") node.append(text);
  } else if (child.data !== text) {
    node.textContent = text;
  }
}

/// Sets an attribute, or removes it for null.
export function setAttribute(node, name, value) {
  if (value === null || value === undefined) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== value) {
    node.setAttribute(name, value);
  }
}

export function setHidden(node, hidden) {
  if (node.hidden !== hidden) node.hidden = hidden;
}

/// Sets a custom property of the style, such as the length of a bar.
export function setProperty(node, name, value) {
  node.style.setProperty(name, value);
}

/// Makes the children of a parent those of a list, by key: known ones are kept and updated, new ones made, others
/// removed. Nothing is moved that is in place already. An entry has a node, and may have a second one after it, its tail.
export class Keyed {
  constructor(parent, make) {
    this.parent = parent;
    this.make = make;
    this.known = new Map();
  }

  update(items, key, ...context) {
    const next = new Map();
    for (const item of items) {
      const name = key(item);
      if (next.has(name)) continue;
      const entry = this.known.get(name) ?? this.make(item);
      next.set(name, entry);
      entry.update(item, ...context);
    }
    for (const [name, entry] of this.known) {
      if (!next.has(name)) {
        entry.node.remove();
        entry.tail?.remove();
      }
    }
    let place = this.parent.firstChild;
    for (const entry of next.values()) {
      if (entry.node === place) {
        place = (entry.tail ?? entry.node).nextSibling;
      } else {
        move(this.parent, entry.node, place);
        if (entry.tail) move(this.parent, entry.tail, place);
      }
    }
    this.known = next;
  }
}

/// Moves a node without losing the focus within it.
function move(parent, node, before) {
  const focused = node.contains(document.activeElement) ? document.activeElement : null;
  parent.insertBefore(node, before);
  focused?.focus({ preventScroll: true });
}
