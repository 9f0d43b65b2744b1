// Runs before anything is shown, so that nothing flashes: the theme that was chosen here, else the system's.
(() => {
  const themes = ["auto", "light", "dark"];
  const root = document.documentElement;

  function stored() {
    try {
      const chosen = localStorage.getItem("console-theme");
      return themes.includes(chosen) ? chosen : "auto";
    } catch {
      return "auto"; // A browser that keeps nothing.
    }
  }

  root.dataset.theme = stored();

  /** Go on to the next theme, and return its name. */
  window.nextTheme = () => {
    const next = themes[(themes.indexOf(root.dataset.theme) + 1) % themes.length];
    root.dataset.theme = next;
    try {
      localStorage.setItem("console-theme", next);
    } catch {
      // Then it is for this page only.
    }
    document.dispatchEvent(new Event("themechange"));
    return next;
  };
})();
