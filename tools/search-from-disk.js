(() => {
  // A page opened from disk may not fetch its neighbours: the index comes as a script instead,
  // when search asks for it.
  const plain = window.fetch;
  window.fetch = (url, ...rest) => {
    if (!String(url).endsWith("search.json")) return plain(url, ...rest);
    return new Promise((ok, bad) => {
      const s = document.createElement("script");
      s.src = String(url).replace(/search\.json$/, "search.js");
      s.onload = () => ok(new Response(JSON.stringify(window.searchIndex)));
      s.onerror = () => bad(new Error("search.js is missing"));
      document.head.appendChild(s);
    });
  };

  // The list of pages is longer than the screen: show the part of it where this page is.
  const show = () => {
    const list = document.getElementById("quarto-sidebar");
    const here = list && list.querySelector("a.active");
    if (!here) return;
    const middle = list.getBoundingClientRect().top + list.clientHeight / 2;
    list.scrollTop += here.getBoundingClientRect().top - middle;
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", show);
  else show();
})();
