// A modal dialog: it returns the focus to where it was, and closes by Escape, by its buttons, or by a click beside it.

export class Dialog {
  constructor(node, onClose = () => {}) {
    this.node = node;
    this.opener = null;
    node.addEventListener("close", () => {
      onClose();
      if (this.opener?.isConnected) this.opener.focus();
      this.opener = null;
    });
    node.addEventListener("click", (event) => {
      if (event.target === node || event.target.closest("[data-close]")) node.close();
    });
  }

  get isOpen() {
    return this.node.open;
  }

  /// Opens it, with the focus on `first`.
  open(first) {
    if (!this.node.open) {
      this.opener = document.activeElement === document.body ? null : document.activeElement;
      this.node.showModal();
    }
    first?.focus();
  }

  close() {
    this.node.close();
  }
}

let fading = null;

/// Says the result of a change, for some seconds, also to screen readers.
export function say(text) {
  const toast = document.getElementById("toast");
  clearTimeout(fading);
  toast.hidden = false;
  toast.textContent = text;
  fading = setTimeout(() => {
    toast.hidden = true;
  }, 12_000);
}
