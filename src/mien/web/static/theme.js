// Before the page is painted: the theme that was chosen here, if one was. A module would come too late.
const chosen = localStorage.getItem("mien-theme");
if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
