// Light or dark: what the system says, unless somebody chose.

const KEPT = "tangram-theme"; // first.js reads it, too

/** Follow the system and the chooser; the choice is kept in the browser, if it keeps anything. */
export function follow(chooser) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const show = () => {
    document.documentElement.dataset.theme = chooser.value || (dark.matches ? "dark" : "light");
  };
  keeping((storage) => (chooser.value = storage.getItem(KEPT) ?? ""));
  chooser.addEventListener("change", () => {
    keeping((storage) => storage.setItem(KEPT, chooser.value));
    show();
  });
  dark.addEventListener("change", show);
  show();
}

function keeping(use) {
  try {
    use(localStorage);
  } catch {
    // a browser that keeps nothing: the choice lasts as long as the page
  }
}
