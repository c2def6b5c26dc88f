// Before the page is painted: the theme that was chosen here, if one was. A module would come too late.
try {
  const chosen = localStorage.getItem("mien-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Site data are blocked: nothing was chosen.
}
