// Light or dark: what the system says, unless somebody chose.

const KEPT = "tangram-theme";

/** Follow the system and the chooser; the choice is kept in the browser. */
export function follow(chooser) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const show = () => {
    document.documentElement.dataset.theme = chooser.value || (dark.matches ? "dark" : "light");
  };
  chooser.value = localStorage.getItem(KEPT) ?? "";
  chooser.addEventListener("change", () => {
    localStorage.setItem(KEPT, chooser.value);
    show();
  });
  dark.addEventListener("change", show);
  show();
}
