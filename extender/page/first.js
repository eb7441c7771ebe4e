// Before anything is painted: light or dark, as theme.js keeps it, so that no page flashes.

(() => {
  let theme = "";
  try {
    theme = localStorage.getItem("tangram-theme") ?? "";
  } catch {
    // a browser that keeps nothing: the system's theme it is
  }
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = theme || (dark ? "dark" : "light");
})();
